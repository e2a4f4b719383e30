"""What the board says of itself: temperature, load, memory. All from /proc and /sys; None where it does not say."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

THERMAL = Path("/sys/class/thermal")


def temperature(folder: Path = THERMAL) -> float | None:
    """The hottest zone, degrees Celsius."""
    hottest: float | None = None
    try:
        zones = list(folder.glob("thermal_zone*/temp"))
    except OSError:
        return None
    for zone in zones:
        try:
            value = int(zone.read_text()) / 1000.0
        except (OSError, ValueError):
            continue  # a zone may be there and not readable while its device sleeps
        if -40.0 < value < 200.0 and (hottest is None or value > hottest):
            hottest = value
    return hottest


def load() -> float | None:
    """Programs that want to run, per CPU, over the last minute."""
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except OSError:
        return None


def memory_mib() -> float | None:
    """Memory of this process that is in RAM, MiB."""
    value = _status("VmRSS")
    return value / 1024.0 if value is not None else None


def swapped_kib() -> int | None:
    """Memory of this process that is in swap, KiB."""
    return _status("VmSwap")


def open_files() -> int | None:
    """Open files, sockets and pipes of this process."""
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return None


def report() -> dict[str, Any]:
    """All of it, for the status."""
    heat, memory, busy = temperature(), memory_mib(), load()
    return {
        "temperature": None if heat is None else round(heat, 1),
        "load": None if busy is None else round(busy, 2),
        "memory_mib": None if memory is None else round(memory, 1),
        "swapped_kib": swapped_kib(),
        "open_files": open_files(),
        "threads": _status("Threads"),
    }


def _status(name: str) -> int | None:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name + ":"):
                return int(line.split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return None
