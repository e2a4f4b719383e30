"""Memory stays in memory: no core dumps, no tracing, no swap."""

from __future__ import annotations

import logging
import resource
from pathlib import Path

from counter.privacy import _kernel
from counter.privacy.report import LockReport

log = logging.getLogger(__name__)

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_CAP_IPC_LOCK, _CAP_SYS_PTRACE = 14, 19
_UNLIMITED = resource.RLIM_INFINITY


def forbid_dumps() -> None:
    """No core file, and none of the user's other processes may trace this one or read its memory.

    The size limit alone is not enough: where core dumps are piped to a program (systemd-coredump) the kernel does not
    look at it. It does look at *dumpable*. Both are inherited differently, so both are set after every start.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _kernel.prctl(_kernel.PR_SET_DUMPABLE, 0)


def lock_memory() -> None:
    """Keep every page in RAM, those of the future too. Without the right to, nothing is changed.

    A limit below the whole address space would make later allocations fail, so only no limit
    (``LimitMEMLOCK=infinity``) or CAP_IPC_LOCK will do. Pages are locked when they are first used: reserved address
    space costs nothing.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if hard == _UNLIMITED and soft != hard:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
    if not _may_lock():
        return
    try:
        _kernel.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT)
    except OSError as error:
        log.warning("the memory cannot be locked against swap: %s", error.strerror)


def dump_report() -> LockReport:
    """Whether a crash would leave a core dump."""
    limit = resource.getrlimit(resource.RLIMIT_CORE)
    if _dumpable():
        return LockReport("core dumps", False, "the process may be dumped; it was not locked")
    if limit != (0, 0):
        return LockReport("core dumps", False, f"the limit of core files is {limit[0]}, not 0")
    return LockReport("core dumps", True, "core limit 0 and not dumpable: neither file nor crash handler gets memory")


def tracing_report() -> LockReport:
    """Whether other processes can read this one's memory."""
    if _dumpable():
        return LockReport("tracing", False, "processes of the same user may trace this one; it was not locked")
    return LockReport("tracing", True, "not dumpable: no process without CAP_SYS_PTRACE (root's) can trace or read it")


def swap_report(swaps: Path = Path("/proc/swaps")) -> LockReport:
    """Whether pages can reach a swap device: they are locked, or there is none. Looked up anew each time."""
    disks, compressed = _swaps(swaps)
    if _locked():
        note = ""
        if disks and _hibernates():
            note = f", but hibernation is set up and would write it to {', '.join(disks)}: mask hibernate.target"
        return LockReport("swap", not note, f"memory is locked into RAM{note}")
    if disks:
        return LockReport(
            "swap",
            False,
            f"memory is not locked and swap is on ({', '.join(disks)}): set LimitMEMLOCK=infinity for the service, "
            "or switch swap off (swapoff -a)",
        )
    where = f"swap is compressed RAM alone ({', '.join(compressed)})" if compressed else "there is no swap"
    return LockReport("swap", True, f"memory is not locked (LimitMEMLOCK is too low), but {where} at this moment")


def _may_lock() -> bool:
    capabilities = int(_kernel.status_field("CapEff") or "0", 16)
    return bool(capabilities >> _CAP_IPC_LOCK & 1) or resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == _UNLIMITED


def _locked() -> bool:
    """Whether (nearly) all that is resident is locked; the kernel counts address space, so more is normal."""

    def kilobytes(name: str) -> int:
        words = _kernel.status_field(name).split()
        return int(words[0]) if words else 0

    return kilobytes("VmLck") >= kilobytes("VmRSS") > 0


def _dumpable() -> bool:
    try:
        return _kernel.prctl(_kernel.PR_GET_DUMPABLE) != 0
    except OSError:
        return True


def _swaps(path: Path) -> tuple[list[str], list[str]]:
    """Swap areas on disks, and those that are RAM themselves."""
    try:
        names = [line.split()[0] for line in path.read_text("utf-8", "replace").splitlines()[1:] if line.strip()]
    except OSError:
        return [], []
    compressed = [name for name in names if name.startswith("/dev/zram")]
    return [name for name in names if name not in compressed], compressed


def _hibernates(power: Path = Path("/sys/power")) -> bool:
    """Whether this machine can suspend to disk and has a place to resume from."""
    try:
        states = (power / "state").read_text("ascii").split()
        return "disk" in states and (power / "resume").read_text("ascii").strip() != "0:0"
    except OSError:
        return False
