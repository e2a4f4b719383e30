"""What an installation does, step by step: the same list is shown and, when asked, done."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from counter.agent.settings import SETTINGS_FILE
from counter.install.units import SENSOR_UNIT, SYSUSERS_FILE, TUNNEL_UNIT, UNIT_FOLDER, Place, files
from uplink.identity import IDENTITY_FILE
from uplink.keyfiles import write_atomic

SYSTEM_SETTINGS = Path("/etc/headroom") / SETTINGS_FILE
Run = Callable[[Sequence[str]], None]


class InstallError(Exception):
    """A step that failed; the text says which, why and what to do."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do.

    Attributes:
        words: for people.
        needed: False when it is so already.
        do: does it; raises InstallError.
    """

    words: str
    needed: bool
    do: Callable[[], None]


def system_run(argv: Sequence[str]) -> None:
    """Run a program of the system, quietly unless it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"{' '.join(argv)}: {error}") from None
    if done.returncode:
        raise InstallError(f"{' '.join(argv)} failed: {(done.stderr or done.stdout).strip() or done.returncode}")


def plan_install(place: Place, root: Path, *, start: bool, run: Run = system_run) -> list[Step]:
    """The steps of an installation.

    Args:
        root: "/" installs here; another folder is the root of an image that is being built: files only, no services.
        start: whether to start the sensor at the end, when it has all it needs.
    """
    steps = [_write(root, path, text) for path, text in files(place).items()]
    state = _within(root, place.state)
    steps.append(
        Step(
            f"make {place.state}, mode 0700",
            not state.is_dir(),
            lambda: state.mkdir(0o700, parents=True, exist_ok=True),
        )
    )
    if root != Path("/"):
        where = _within(root, UNIT_FOLDER) / "multi-user.target.wants"
        for unit in (TUNNEL_UNIT, SENSOR_UNIT):
            link = where / unit
            steps.append(Step(f"enable {unit} in the image", not link.is_symlink(), _link(link, UNIT_FOLDER / unit)))
        return steps
    sysusers = ["systemd-sysusers", str(SYSUSERS_FILE)]
    steps += [
        Step(f"make the system user {place.user}: {' '.join(sysusers)}", True, lambda: run(sysusers)),
        Step("systemctl daemon-reload", True, lambda: run(["systemctl", "daemon-reload"])),
    ]
    for unit in (TUNNEL_UNIT, SENSOR_UNIT):
        steps.append(_systemctl(run, "enable", unit))
    if start and not list(still_missing(place, root)):
        if (state / "tunnel.conf").exists():
            steps.append(_systemctl(run, "restart", TUNNEL_UNIT))
        steps.append(_systemctl(run, "restart", SENSOR_UNIT))
    return steps


def plan_removal(place: Place, root: Path, run: Run = system_run) -> list[Step]:
    """The steps of the way back. Keys, settings and waiting counts stay in the state folder."""
    units = (SENSOR_UNIT, TUNNEL_UNIT)
    steps = [_systemctl(run, "disable", unit, "--now") for unit in units] if root == Path("/") else []
    wants = UNIT_FOLDER / "multi-user.target.wants"
    links = [wants / unit for unit in units] if root != Path("/") else []
    for path in [*links, *files(place)]:
        target = _within(root, path)
        steps.append(Step(f"remove {path}", target.exists() or target.is_symlink(), _remove(target)))
    if root == Path("/"):
        steps.append(Step("systemctl daemon-reload", True, lambda: run(["systemctl", "daemon-reload"])))
    return steps


def obstacles(place: Place, root: Path) -> Iterator[str]:
    """What stands in the way of doing it, for people. Nothing is changed by asking."""
    if os.geteuid() != 0 and root == Path("/"):
        yield "only root may install a service; use sudo"
    if root == Path("/"):
        if not Path("/run/systemd/system").is_dir():
            yield "this machine does not run systemd; --root DIR prepares the image of one that does"
        if shutil.which("systemd-sysusers") is None:
            yield "systemd-sysusers is missing (Debian: apt install systemd)"
        if not place.program.exists():
            yield f"{place.program} is not there; install headroom first (python3 -m venv /opt/headroom)"


def still_missing(place: Place, root: Path) -> Iterator[str]:
    """What must be done before the sensor can start, as commands for people; until then it is not started."""
    state = _within(root, place.state)
    there = (state, *_folders(state))
    if not any((folder / IDENTITY_FILE).exists() for folder in there):
        yield "headroom sensor enrol"
    if not (state / SETTINGS_FILE).exists() and not _within(root, SYSTEM_SETTINGS).exists():
        yield "headroom sensor init"


def _folders(state: Path) -> list[Path]:
    try:
        return [path for path in state.iterdir() if path.is_dir()]
    except OSError:
        return []


def _within(root: Path, path: Path) -> Path:
    return root / path.relative_to("/")


def _systemctl(run: Run, verb: str, unit: str, *options: str) -> Step:
    argv = ["systemctl", verb, *options, unit]
    return Step(" ".join(argv), True, lambda: run(argv))


def _write(root: Path, path: Path, text: str) -> Step:
    target = _within(root, path)
    try:
        there = target.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        there = None
    words = f"{'write' if there is None else 'replace'} {path}"

    def do() -> None:
        try:
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            write_atomic(target, text.encode(), 0o644)
        except OSError as error:
            raise InstallError(f"{target}: cannot be written: {error.strerror}") from None

    return Step(words, there != text, do)


def _link(link: Path, target: Path) -> Callable[[], None]:
    def do() -> None:
        try:
            link.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(target)
        except OSError as error:
            raise InstallError(f"{link}: cannot be made: {error.strerror}") from None

    return do


def _remove(target: Path) -> Callable[[], None]:
    def do() -> None:
        try:
            target.unlink(missing_ok=True)
        except OSError as error:
            raise InstallError(f"{target}: cannot be removed: {error.strerror}") from None

    return do
