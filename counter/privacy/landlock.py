"""Landlock: the process may write beneath its own folders and nowhere else, and read only what it needs.

The kernel enforces it from then on, for every thread that is started later and across `execve`; nobody in the process
can take it back. Versions (ABI) differ in what they can confine; each right is asked for where the kernel knows it.

Numbers and structures: ``include/uapi/linux/landlock.h``.
"""

from __future__ import annotations

import ctypes
import os
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from counter.privacy import _kernel
from counter.privacy.report import LockError

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION_FLAG = 1
_PATH_BENEATH, _NET_PORT = 1, 2

WRITE_FILE, READ_FILE, READ_DIR = 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE = 1 << 4, 1 << 5
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (1 << bit for bit in range(6, 13))
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
BIND_TCP, CONNECT_TCP = 1, 2
SCOPE_ABSTRACT_SOCKET, SCOPE_SIGNAL = 1, 2

_READ = READ_FILE | READ_DIR
_MAKE_ANY = MAKE_CHAR | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_BLOCK | MAKE_SYM
_WRITE = WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | REFER | TRUNCATE
_OF_FILES = READ_FILE | WRITE_FILE | TRUNCATE | IOCTL_DEV

_SYSTEM = (
    "/usr",
    "/lib",
    "/lib64",
    "/etc",
    "/proc",
    "/sys",
    "/run/systemd/resolve",  # where /etc/resolv.conf leads
    "/run/resolvconf",
    "/run/NetworkManager",
    "/dev/urandom",
    "/dev/random",
    "/dev/null",
)


class _RulesetAttr(ctypes.Structure):
    _fields_ = [("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64)]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


class _NetPort(ctypes.Structure):
    _fields_ = [("allowed", ctypes.c_uint64), ("port", ctypes.c_uint64)]


@dataclass(frozen=True)
class Confinement:
    """What may be reached.

    Attributes:
        write: folders beneath which files may be made, written, renamed and removed. They exist.
        read: further files and folders to read: models, scenes, configuration, recordings.
        devices: camera devices, to open, read and control.
        connect: TCP ports to connect to, where the kernel knows that rule (ABI 4).
    """

    write: tuple[Path, ...]
    read: tuple[Path, ...] = ()
    devices: tuple[Path, ...] = ()
    connect: tuple[int, ...] = ()


def abi() -> int:
    """The kernel's Landlock version; 0 where there is none or it is switched off at boot."""
    try:
        return _kernel.syscall(_CREATE_RULESET, None, 0, _VERSION_FLAG)
    except OSError:
        return 0


def restrict(confinement: Confinement) -> None:
    """Confine the calling thread and all that it starts from here on. Cannot be undone.

    Raises:
        LockError: a path cannot be confined to.
        OSError: the kernel refused.
    """
    version = abi()
    if not version:
        raise _kernel.KernelError(38, "this kernel has no Landlock")
    handled = _handled(version)
    attributes = _RulesetAttr(handled, BIND_TCP | CONNECT_TCP if version >= 4 else 0, _scope() if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _kernel.syscall(_CREATE_RULESET, ctypes.byref(attributes), size, 0)
    try:
        for path, rights in _rules(confinement):
            _allow_path(ruleset, path, rights & handled)
        if version >= 4:
            for port in confinement.connect:
                rule = _NetPort(CONNECT_TCP, port)
                _kernel.syscall(_ADD_RULE, ruleset, _NET_PORT, ctypes.byref(rule), 0)
        _kernel.prctl(_kernel.PR_SET_NO_NEW_PRIVS, 1)
        _kernel.syscall(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)


def confined() -> bool:
    """Whether this thread is confined, by trying: everybody may list ``/``, except who is confined."""
    try:
        os.close(os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except PermissionError:
        return True
    return False


def _handled(version: int) -> int:
    rights = _READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | _MAKE_ANY
    for since, right in ((2, REFER), (3, TRUNCATE), (5, IOCTL_DEV)):
        rights |= right if version >= since else 0
    return rights


def _scope() -> int:
    """No signals and no abstract sockets to outside, save where the service manager listens on one."""
    manager = os.environ.get("NOTIFY_SOCKET", "").startswith("@")
    return SCOPE_SIGNAL | (0 if manager else SCOPE_ABSTRACT_SOCKET)


def _rules(confinement: Confinement) -> Iterable[tuple[Path, int]]:
    for path in confinement.write:
        if path.resolve() == Path("/") or not path.is_dir():
            raise LockError(f"{path}: not a folder that writes can be confined to; make it first")
        yield path, _READ | _WRITE
    for path in (*program_paths(), *map(Path, _SYSTEM), *confinement.read):
        if path.exists() and path.resolve() != Path("/"):
            yield path, _READ
    yield Path("/dev/null"), READ_FILE | WRITE_FILE | IOCTL_DEV
    device = READ_FILE | WRITE_FILE | IOCTL_DEV
    if confinement.devices:
        yield Path("/dev/v4l"), _READ
    for path in confinement.devices:
        yield path, device
    if confinement.devices and os.geteuid() != 0:
        # A camera that is plugged in again has a new device file, which rules on the old one do not cover. Nothing can
        # be made beneath /dev, and the group (video) decides which devices open; root has no such second barrier, so
        # for root a camera that returns needs a restart.
        yield Path("/dev"), device


def program_paths() -> list[Path]:
    """Where this program and its libraries lie: interpreter, environment, import path, systemd's credentials."""
    places = [sys.prefix, sys.base_prefix, sys.executable, os.path.dirname(os.path.realpath(sys.executable))]
    places += [entry or os.getcwd() for entry in sys.path]
    places.append(str(Path(__file__).resolve().parents[2]))
    if sys.argv and os.path.isfile(sys.argv[0]):
        places.append(sys.argv[0])
    if credentials := os.environ.get("CREDENTIALS_DIRECTORY"):
        places.append(credentials)
    return [Path(place) for place in dict.fromkeys(places)]


def _allow_path(ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there needs no right
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= _OF_FILES
        rule = _PathBeneath(rights, descriptor)
        _kernel.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(rule), 0)
    finally:
        os.close(descriptor)
