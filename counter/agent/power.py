"""What the board draws, where it can be read: the Raspberry Pi 5's power chip, sensors under hwmon, Intel and AMD RAPL.

Each of them sees a part: the chip of the Pi what goes through it (not what USB devices draw), RAPL the processor. So
figures of several kinds are never added up, and what was measured is always said beside the watts. It is for programs
beside the sensor: the sensor's own process is locked out of all three.

Sources:
    hwmon: https://docs.kernel.org/hwmon/sysfs-interface.html (``power[1-*]_input``, microwatts).
    RAPL: https://docs.kernel.org/power/powercap/powercap.html (``energy_uj``, microjoules, wraps at
    ``max_energy_range_uj``; for root alone since CVE-2020-8694).
    Raspberry Pi 5: ``vcgencmd pmic_read_adc`` prints a current and a voltage for each rail of the chip.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
HWMON = Path("/sys/class/hwmon")
_OF_A_CARD = ("amdgpu", "nouveau", "radeon", "i915", "xe")
"""Drivers of graphics cards: what those draw is not what the board draws."""
_RAIL = re.compile(r"^\s*(\w+)_([AV])\s+(?:current|volt)\(\d+\)=([0-9.]+)[AV]\s*$", re.MULTILINE)
_EVERY = 1.0


@dataclass(frozen=True, slots=True)
class Power:
    """Watts over a while.

    Attributes:
        watts: the mean; None where it cannot be read.
        words: what was measured, or why nothing could be.
    """

    watts: float | None
    words: str


@dataclass(frozen=True, slots=True)
class Meters:
    """Where watts may be read from; for tests, others than the system's.

    Attributes:
        pmic: what ``vcgencmd pmic_read_adc`` prints; raises OSError where there is none.
    """

    powercap: Path = POWERCAP
    hwmon: Path = HWMON
    pmic: Callable[[], str] = field(default_factory=lambda: _pmic)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True, slots=True)
class _Counter:
    """Joules that only grow, until they begin anew at ``wraps``."""

    name: str
    path: Path
    wraps: float

    def read(self) -> float:
        return int(self.path.read_text()) / 1e6


def measure(seconds: float, meters: Meters | None = None) -> Power:
    """Watch for ``seconds`` and give the mean power. Waits for as long in any case."""
    meters = meters or Meters()
    why: list[str] = []
    for find in (_by_pmic, _by_hwmon):
        read, words = find(meters)
        if read is not None:
            return _mean(read, seconds, meters, words)
        why.append(words)
    counters, words = _rapl(meters)
    if counters:
        return _spent(counters, seconds, meters)
    meters.sleep(seconds)
    return Power(None, "not readable here: " + "; ".join([*why, words]))


def _mean(read: Callable[[], float], seconds: float, meters: Meters, words: str) -> Power:
    """Of a figure that is for the moment: several looks."""
    end = meters.clock() + seconds
    looks: list[float] = []
    while True:
        try:
            looks.append(read())
        except (OSError, ValueError) as error:
            meters.sleep(max(end - meters.clock(), 0.0))
            return Power(None, f"{words}: it stopped answering: {error}")
        left = end - meters.clock()
        if left <= 0.0:
            return Power(sum(looks) / len(looks), words)
        meters.sleep(min(left, _EVERY))


def _spent(counters: Sequence[_Counter], seconds: float, meters: Meters) -> Power:
    """Of counters of energy: what came to them, over the time."""
    names = ", ".join(counter.name for counter in counters)
    begun, first = meters.clock(), [counter.read() for counter in counters]
    meters.sleep(seconds)
    passed = meters.clock() - begun
    joules = 0.0
    for counter, before in zip(counters, first, strict=True):
        try:
            more = counter.read() - before
        except (OSError, ValueError) as error:
            return Power(None, f"RAPL {names}: it stopped answering: {error}")
        joules += more if more >= 0.0 else more + counter.wraps
    return Power(joules / max(passed, 1e-9), f"RAPL {names}: the processor, not the whole board")


def _by_pmic(meters: Meters) -> tuple[Callable[[], float] | None, str]:
    words = "rails of the Raspberry Pi's power chip, without what USB devices draw"

    def read() -> float:
        rails: dict[str, dict[str, float]] = {}
        for name, unit, value in _RAIL.findall(meters.pmic()):
            rails.setdefault(name, {})[unit] = float(value)
        whole = [rail["A"] * rail["V"] for rail in rails.values() if len(rail) == 2]
        if not whole:
            raise ValueError("it names no rail with both current and voltage")
        return sum(whole)

    try:
        read()
    except (OSError, ValueError) as error:
        return None, f"vcgencmd pmic_read_adc: {_reason(error)}"
    return read, words


def _by_hwmon(meters: Meters) -> tuple[Callable[[], float] | None, str]:
    files, names, refused = [], [], []
    for path in sorted(meters.hwmon.glob("hwmon*/power*_input")):
        try:
            chip = (path.parent / "name").read_text().strip()
        except OSError:
            chip = path.parent.name
        if chip in _OF_A_CARD:
            continue
        try:
            int(path.read_text())
        except (OSError, ValueError) as error:
            refused.append(f"{path.name} of {chip}: {_reason(error)}")
            continue
        files.append(path)
        names.append(f"{chip} {_label(path)}")
    if not files:
        return None, f"{meters.hwmon}: {', '.join(refused) or 'no sensor of power'}"
    return lambda: sum(int(path.read_text()) for path in files) / 1e6, f"hwmon {', '.join(names)}"


def _label(path: Path) -> str:
    try:
        return path.with_name(path.name.replace("_input", "_label")).read_text().strip()
    except OSError:
        return path.name.removesuffix("_input")


def _rapl(meters: Meters) -> tuple[list[_Counter], str]:
    """The whole platform where that is counted, else the packages with their memory: cores are inside a package."""
    found, refused = [], ""
    for zone in sorted(meters.powercap.glob("*/energy_uj")):
        try:
            name = (zone.parent / "name").read_text().strip()
            wraps = int((zone.parent / "max_energy_range_uj").read_text()) / 1e6
            counter = _Counter(name, zone, wraps)
            counter.read()
        except (OSError, ValueError) as error:
            refused = f"{zone.parent.name}: {_reason(error)}"
            continue
        found.append(counter)
    chosen = [counter for counter in found if counter.name == "psys"][:1]
    chosen = chosen or [counter for counter in found if counter.name.startswith(("package", "dram"))]
    return chosen, f"{meters.powercap}: {refused or 'no RAPL'}"


def _reason(error: Exception) -> str:
    if isinstance(error, PermissionError):
        return "for root alone"
    if isinstance(error, FileNotFoundError):
        return "there is none"
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _pmic() -> str:
    try:
        done = subprocess.run(  # no input of anybody's
            ["vcgencmd", "pmic_read_adc"], capture_output=True, text=True, timeout=5.0, check=False
        )
    except subprocess.TimeoutExpired:
        raise OSError("it does not answer") from None
    if done.returncode or "error" in done.stdout[:20]:
        raise OSError(done.stdout.strip() or done.stderr.strip() or f"it ended with {done.returncode}")
    return done.stdout
