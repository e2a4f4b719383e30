"""Raw system calls: what neither Python's library nor glibc wraps. Linux on x86-64 and aarch64; elsewhere, nothing."""

from __future__ import annotations

import ctypes
import os
import platform
import sys

MACHINES = ("x86_64", "aarch64")
MACHINE = platform.machine() if sys.platform == "linux" else ""

PR_SET_DUMPABLE = 4
PR_GET_DUMPABLE = 3
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39

_libc = ctypes.CDLL(None, use_errno=True)


class KernelError(OSError):
    """The kernel refused, or this is no Linux that we know."""


def supported() -> bool:
    """Whether the numbers below are those of this machine."""
    return MACHINE in MACHINES


def syscall(number: int, *arguments: object) -> int:
    """Call `number`; pointers as ctypes objects, integers as they are. Raises KernelError with the errno."""
    if not supported():
        raise KernelError(38, "not Linux on x86-64 or aarch64")
    _libc.syscall.restype = ctypes.c_long
    # A plain int would be passed as 32 bits.
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    result = int(_libc.syscall(ctypes.c_long(number), *words))
    if result < 0:
        raise _failure()
    return result


def prctl(option: int, *arguments: int) -> int:
    """``prctl(2)``. Raises KernelError."""
    words = [ctypes.c_ulong(word) for word in (*arguments, 0, 0, 0, 0)[:4]]
    result = int(_libc.prctl(ctypes.c_int(option), *words)) if MACHINE else -1
    if result < 0:
        raise _failure()
    return result


def mlockall(flags: int) -> None:
    """``mlockall(2)``. Raises KernelError."""
    if _libc.mlockall(ctypes.c_int(flags)) != 0:
        raise _failure()


def threads() -> int:
    """Threads of this process at this moment."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return 1


def status_field(name: str) -> str:
    """A field of ``/proc/self/status``, empty where there is none."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            for line in file:
                key, _, value = line.partition(":")
                if key == name:
                    return value.strip()
    except OSError:
        pass
    return ""


def _failure() -> KernelError:
    number = ctypes.get_errno() or 38
    return KernelError(number, os.strerror(number))
