"""Put all locks on, and look at them later."""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from dataclasses import dataclass

from counter.privacy import _kernel, landlock, memory, seccomp
from counter.privacy.frames import debug_report, frames_report, telemetry_report
from counter.privacy.landlock import Confinement
from counter.privacy.report import LockReport

log = logging.getLogger(__name__)

_MARK = "HEADROOM_CONFINED"


@dataclass
class _State:
    """What `lock` did in this process."""

    confinement: Confinement | None = None
    done: bool = False
    files_failure: str = "the process was not locked"
    calls_failure: str = "the process was not locked"
    programs: bool = True


_state = _State()


def lock(confinement: Confinement, *, allow_programs: bool = False, restart: bool = True) -> list[LockReport]:
    """Put every lock on this process. Cannot be undone. Returns what holds; a warning is logged for what does not.

    Landlock confines a thread and what that thread starts; libraries start threads of their own when they are
    imported. So where other threads exist, the process confines this thread and then begins anew as the same program
    with the same arguments: a confinement outlives `execve`, threads do not. The second time, `lock` returns.

    Args:
        confinement: which folders, devices and ports the process needs. Folders to write to must exist.
        allow_programs: whether other programs may be started later.
        restart: False forbids to begin anew; with other threads, the files' lock then does not hold.

    Locked with the same confinement already, it changes nothing.

    Raises:
        LockError: a folder of the confinement cannot be used.
    """
    if _state.done and _state.confinement == confinement:
        return inspect()
    _state.confinement = confinement
    _state.programs = allow_programs
    _confine(confinement, restart=restart)
    try:
        memory.forbid_dumps()
    except (OSError, ValueError) as error:
        log.warning("core dumps and tracing cannot be forbidden: %s", error)
    memory.lock_memory()
    try:
        seccomp.install(allow_programs=allow_programs)
        _state.calls_failure = ""
    except OSError as error:
        _state.calls_failure = f"the kernel refused the filter: {error.strerror}"
    _state.done = True
    reports = inspect()
    for report in reports:
        if report.required and not report.holds:
            log.warning("privacy lock does not hold: %s: %s", report.name, report.why)
    return reports


def inspect() -> list[LockReport]:
    """Every lock of this process as it is now, in a fixed order."""
    return [
        memory.dump_report(),
        memory.tracing_report(),
        memory.swap_report(),
        _files_report(),
        _network_report(),
        _calls_report(),
        frames_report(),
        debug_report(),
        telemetry_report(),
    ]


def _confine(confinement: Confinement, *, restart: bool) -> None:
    mark = _digest(confinement)
    if os.environ.pop(_MARK, "") == mark and landlock.confined():
        _state.files_failure = ""  # by the process that this one was, before any of its threads began
        return
    others = _kernel.threads() - 1
    if others and not restart:
        _state.files_failure = f"{others} threads had begun before it could be put on"
        return
    try:
        landlock.restrict(confinement)
    except OSError as error:
        version = landlock.abi()
        _state.files_failure = (
            f"Landlock (ABI {version}): {error.strerror}"
            if version
            else "this kernel has no Landlock, or it is off (boot with lsm=landlock,...)"
        )
        return
    if others:
        _begin_anew(mark)
    _state.files_failure = "" if landlock.confined() else "the kernel took the rules but does not keep them"


def _begin_anew(mark: str) -> None:
    """Become the same program again. Files opened by Python close by themselves; what was logged is written first."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, _MARK: mark})  # noqa: S606


def _digest(confinement: Confinement) -> str:
    """The mark names what was confined: it cannot stand for another confinement."""
    return hashlib.sha256(repr((os.getpid(), confinement)).encode()).hexdigest()[:32]


def _files_report() -> LockReport:
    if _state.files_failure or _state.confinement is None:
        return LockReport("files", False, _state.files_failure)
    if not landlock.confined():
        return LockReport("files", False, "this thread is not confined")
    places = [*map(str, _state.confinement.write), *map(str, _state.confinement.devices)]
    if _state.confinement.devices and os.geteuid() != 0:
        places.append("device files of this user's groups")
    return LockReport("files", True, f"Landlock ABI {landlock.abi()}: written is only {', '.join(places)}")


def _network_report() -> LockReport:
    if _state.files_failure or _state.confinement is None:
        return LockReport("network", False, _state.files_failure, required=False)
    if landlock.abi() < 4:
        return LockReport("network", False, "this kernel cannot confine connections (Landlock ABI 4)", required=False)
    ports = ", ".join(map(str, _state.confinement.connect))
    outwards = f"to the ports {ports} alone" if ports else "to nowhere"
    why = f"TCP connections {outwards}, none from outside; UDP is not covered"
    return LockReport("network", True, why, required=False)


def _calls_report() -> LockReport:
    if _state.calls_failure or not seccomp.installed():
        return LockReport("system calls", False, _state.calls_failure or "no filter holds")
    programs = "" if _state.programs else ", other programs"
    return LockReport(
        "system calls", True, f"tracing, hidden channels, mounts, modules{programs} and raw sockets are refused"
    )
