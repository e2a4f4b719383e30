"""seccomp: system calls that a sensor never needs and that would lead around the other locks are refused.

A short list of what is forbidden, not a long one of what is allowed: ONNX Runtime, OpenCV and glibc change what they
call with every version, and a sensor on a ceiling must survive updates. systemd's ``SystemCallFilter=`` (the unit that
``headroom sensor install`` writes) narrows further. Numbers: ``arch/x86/entry/syscalls/syscall_64.tbl`` and
``include/uapi/asm-generic/unistd.h``; the program's form: ``Documentation/userspace-api/seccomp_filter.rst``.
"""

from __future__ import annotations

import ctypes
import errno
import struct

from counter.privacy import _kernel

# name: (x86-64, aarch64); None where the architecture has no such call.
_READS_OTHERS = {  # looks into, or is looked into by, another process
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "bpf": (321, 280),
}
_HIDES = {  # moves bytes where neither the file rules nor a trace of writes would see them
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "memfd_create": (319, 279),
    "vmsplice": (278, 75),
    "open_by_handle_at": (304, 265),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
}
_CHANGES_SYSTEM = {  # mounts, swap, modules, namespaces
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "munlockall": (152, 231),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "acct": (163, 89),
    "syslog": (103, 116),
    "iopl": (172, None),
    "ioperm": (173, None),
}
_STARTS_PROGRAMS = {"execve": (59, 221), "execveat": (322, 281)}
FORBIDDEN = {**_READS_OTHERS, **_HIDES, **_CHANGES_SYSTEM}

_SECCOMP = {"x86_64": 317, "aarch64": 277}
_PRCTL = {"x86_64": 157, "aarch64": 167}
_SOCKET = {"x86_64": 41, "aarch64": 198}
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32_BIT = 0x40000000  # x86-64's calls have second numbers for 32-bit pointers; nobody uses them honestly
_FAMILIES = (1, 2, 10, 16)  # unix, IPv4, IPv6, netlink (name resolution asks for addresses); no raw packets, no radio

_SET_MODE_FILTER, _FLAG_TSYNC = 1, 1
_RET_ALLOW, _RET_ERRNO, _RET_KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _JUMP_EQ, _JUMP_GE, _RETURN = 0x20, 0x15, 0x35, 0x06
_OFF_NUMBER, _OFF_ARCH, _OFF_ARGS = 0, 4, 16


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def install(*, allow_programs: bool = False) -> None:
    """Filter every thread of this process, for ever. Raises OSError when the kernel refuses.

    Args:
        allow_programs: whether other programs may still be started.
    """
    code = program(_kernel.MACHINE, allow_programs=allow_programs)
    _kernel.prctl(_kernel.PR_SET_NO_NEW_PRIVS, 1)
    argument = _Program(len(code) // 8, code)
    failed = _kernel.syscall(_SECCOMP[_kernel.MACHINE], _SET_MODE_FILTER, _FLAG_TSYNC, ctypes.byref(argument))
    if failed:
        raise _kernel.KernelError(errno.EBUSY, f"thread {failed} has a filter of its own")


def installed() -> bool:
    """Whether a filter holds for this thread."""
    return _kernel.status_field("Seccomp") == "2"


def program(machine: str, *, allow_programs: bool = False) -> bytes:
    """The filter in classic BPF: ``struct sock_filter`` of 8 bytes each. Raises KernelError for an unknown machine."""
    if machine not in _AUDIT_ARCH:
        raise _kernel.KernelError(errno.ENOSYS, f"no list of system calls for {machine or 'this system'}")
    column = _kernel.MACHINES.index(machine)
    table = FORBIDDEN if allow_programs else {**FORBIDDEN, **_STARTS_PROGRAMS}
    denied = _RET_ERRNO | errno.EPERM
    code = [
        _step(_LOAD, _OFF_ARCH),
        _step(_JUMP_EQ, _AUDIT_ARCH[machine], 1, 0),
        _step(_RETURN, _RET_KILL),
        _step(_LOAD, _OFF_NUMBER),
    ]
    if machine == "x86_64":
        code += [_step(_JUMP_GE, _X32_BIT, 0, 1), _step(_RETURN, denied)]
    for numbers in table.values():
        number = numbers[column]
        if number is not None:
            code += [_step(_JUMP_EQ, number, 0, 1), _step(_RETURN, denied)]
    # Nobody makes the process traceable again: prctl(PR_SET_DUMPABLE, anything but 0).
    code += [
        _step(_JUMP_EQ, _PRCTL[machine], 0, 6),
        _step(_LOAD, _OFF_ARGS),
        _step(_JUMP_EQ, _kernel.PR_SET_DUMPABLE, 0, 3),
        _step(_LOAD, _OFF_ARGS + 8),
        _step(_JUMP_EQ, 0, 1, 0),
        _step(_RETURN, denied),
        _step(_RETURN, _RET_ALLOW),
    ]
    code += [_step(_JUMP_EQ, _SOCKET[machine], 0, 1 + len(_FAMILIES) + 1), _step(_LOAD, _OFF_ARGS)]
    code += [_step(_JUMP_EQ, family, len(_FAMILIES) - place, 0) for place, family in enumerate(_FAMILIES)]
    code += [_step(_RETURN, _RET_ERRNO | errno.EAFNOSUPPORT), _step(_RETURN, _RET_ALLOW)]
    return b"".join(code)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
