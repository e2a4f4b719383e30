"""The plans behind the privacy lock: what Landlock is asked for, and the seccomp filter, instruction by instruction."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from pathlib import Path

import pytest

from counter.privacy import Confinement, LockError, LockReport, landlock, refusal, seccomp
from counter.privacy._kernel import KernelError

pytestmark = [pytest.mark.privacy, pytest.mark.skipif(sys.platform != "linux", reason="the locks are Linux's")]
needs_landlock = pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock")


def test_a_strict_sensor_is_told_each_lock_that_is_missing() -> None:
    reports = [
        LockReport("files", False, "no Landlock"),
        LockReport("network", False, "too old", required=False),
        LockReport("swap", True, "none"),
    ]
    assert refusal(reports) == "files: no Landlock"
    assert refusal(reports[1:]) is None
    assert reports[0].as_json() == {"name": "files", "holds": False, "why": "no Landlock", "required": True}


@needs_landlock
@pytest.mark.parametrize("folder", ["/", "/nowhere/at/all"])
def test_a_folder_that_cannot_be_confined_to_is_named(folder: str) -> None:
    with pytest.raises(LockError, match=folder):
        list(landlock._rules(Confinement((Path(folder),))))


@pytest.mark.parametrize("user", [0, 1000])
def test_a_camera_gets_the_rights_of_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: int) -> None:
    """Read, write and control, and no more. All of /dev only where the user's groups decide what opens."""
    monkeypatch.setattr(os, "geteuid", lambda: user)
    camera = Path("/dev/video7")
    rules = dict(landlock._rules(Confinement((tmp_path,), devices=(camera,))))
    device = landlock.READ_FILE | landlock.WRITE_FILE | landlock.IOCTL_DEV
    assert rules[camera] == device
    assert rules.get(Path("/dev"), 0) == (device if user else 0)
    writable = {path for path, rights in rules.items() if rights & landlock.MAKE_REG}
    assert writable == {tmp_path}
    assert Path("/") not in rules
    without = dict(landlock._rules(Confinement((tmp_path,))))
    assert {path for path, rights in without.items() if rights & landlock.WRITE_FILE} == {tmp_path, Path("/dev/null")}


def _run_filter(code: bytes, arch: int, number: int, *arguments: int) -> int:
    """The kernel's side of classic BPF, for the instructions that the filter has."""
    steps = [struct.unpack("=HBBI", code[at : at + 8]) for at in range(0, len(code), 8)]
    data = struct.pack("=IIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    accumulator, at = 0, 0
    for _ in range(len(steps)):
        kind, yes, no, value = steps[at]
        at += 1
        if kind == 0x06:
            return int(value)
        if kind == 0x20:
            accumulator = struct.unpack_from("=I", data, value)[0]
        else:
            at += yes if (accumulator == value if kind == 0x15 else accumulator >= value) else no
    raise AssertionError("the filter does not end")


ARCHES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050001, 0x80000000


@pytest.mark.parametrize(("machine", "column"), [("x86_64", 0), ("aarch64", 1)])
def test_the_filter_refuses_its_list_and_nothing_else(machine: str, column: int) -> None:
    code, arch = seccomp.program(machine), ARCHES[machine]
    listed = {numbers[column] for numbers in seccomp.FORBIDDEN.values()} - {None}
    listed |= {numbers[column] for numbers in seccomp._STARTS_PROGRAMS.values()}
    with_arguments = {seccomp._PRCTL[machine], seccomp._SOCKET[machine]}
    for number in range(500):
        if number not in with_arguments:
            expected = REFUSE if number in listed else ALLOW
            assert _run_filter(code, arch, number) == expected, number
    prctl, socket_ = seccomp._PRCTL[machine], seccomp._SOCKET[machine]
    assert _run_filter(code, arch, prctl, 4, 1) == REFUSE
    assert _run_filter(code, arch, prctl, 4, 0) == ALLOW
    assert _run_filter(code, arch, prctl, 15, 1) == ALLOW
    families = {family: _run_filter(code, arch, socket_, family) for family in range(45)}
    assert {family for family, answer in families.items() if answer == ALLOW} == {1, 2, 10, 16}
    assert _run_filter(code, ARCHES["x86_64" if column else "aarch64"], 0) == KILL
    if machine == "x86_64":
        assert _run_filter(code, arch, 0x40000000 | 1) == REFUSE, "the second numbers of x32"
    assert _run_filter(seccomp.program(machine, allow_programs=True), arch, 59 if not column else 221) == ALLOW


def test_an_unknown_machine_has_no_filter() -> None:
    with pytest.raises(KernelError, match="riscv64"):
        seccomp.program("riscv64")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="compares with the header of this architecture")
def test_numbers_are_those_of_the_kernel() -> None:
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if not header.is_file():
        pytest.skip("no kernel headers here")
    known = {
        words[1].removeprefix("__NR_"): int(words[2])
        for words in (line.split() for line in header.read_text().splitlines())
        if len(words) == 3 and words[0] == "#define" and words[1].startswith("__NR_")
    }
    for name, (number, _) in {**seccomp.FORBIDDEN, **seccomp._STARTS_PROGRAMS}.items():
        assert known.get(name, number) == number, name
    assert ctypes.sizeof(landlock._PathBeneath) == 12
