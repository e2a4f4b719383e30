"""The privacy lock, proven from outside: programs that are locked and then try."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from counter.privacy import in_use, inspect, landlock, memory
from counter.privacy.frames import DEBUG_SWITCHES, debug_report, frames_report, telemetry_report

pytestmark = [
    pytest.mark.privacy,
    pytest.mark.skipif(sys.platform != "linux", reason="the locks are Linux's"),
]
needs_landlock = pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock")
ROOT = Path(__file__).resolve().parents[2]

PRELUDE = """
import ctypes, json, os, socket, subprocess, sys, threading
from pathlib import Path
import counter  # numpy, OpenCV and ONNX Runtime, with the threads that they start
from counter.privacy import Confinement, inspect, lock

state, outside = Path(sys.argv[1]), Path(sys.argv[2])
tried = {}

def attempt(name, action):
    try:
        action()
        tried[name] = "done"
    except OSError as error:
        tried[name] = type(error).__name__

def locked(**more):
    return lock(Confinement((state,), connect=(8400,)), **more)

def tell(**more):
    print(json.dumps({"tried": tried, "locks": {r.name: [r.holds, r.why] for r in inspect()}, **more}))
    sys.stdout.flush()
"""


def program(tmp_path: Path, body: str, **environment: str) -> dict[str, Any]:
    """Run `body` after the prelude in a process of its own; what it tells."""
    done = start(tmp_path, body, **environment)
    out, err = done.communicate(timeout=60)
    assert done.returncode == 0, err
    told: dict[str, Any] = json.loads(out.splitlines()[-1])
    return told


def start(tmp_path: Path, body: str, **environment: str) -> subprocess.Popen[str]:
    state, outside = tmp_path / "state", tmp_path / "outside"
    for folder in (state, outside):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)
    (outside / "secret").write_text("another's")
    return subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(body), str(state), str(outside)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One locked program with real libraries that tries everything."""
    folder = tmp_path_factory.mktemp("locked")
    return program(
        folder,
        """
        locked()
        results = []
        from counter import PeopleCounter
        import cv2, numpy as np
        people = PeopleCounter("models/weights/headroom-person-door.onnx")
        for index in range(3):
            results.append(people.update(np.full((240, 320, 3), 60 * index, np.uint8), float(index)).presence[""])
        own, other = state / "record", outside / "frame.jpg"

        attempt("write own", lambda: own.write_bytes(b"x"))
        attempt("rename own", lambda: own.rename(state / "renamed"))
        attempt("write elsewhere", lambda: other.write_bytes(b"x"))
        attempt("append elsewhere", lambda: open(outside / "secret", "a").write("x"))
        attempt("truncate elsewhere", lambda: os.truncate(outside / "secret", 0))
        attempt("rename out", lambda: (state / "renamed").rename(outside / "renamed"))
        attempt("link out", lambda: os.link(state / "renamed", outside / "linked"))
        attempt("symlink", lambda: os.symlink(outside, state / "way-out"))
        attempt("write /tmp", lambda: open("/tmp/headroom-frame", "wb"))
        attempt("write /dev/shm", lambda: open("/dev/shm/headroom-frame", "wb"))
        attempt("anonymous file", lambda: os.open("/tmp", os.O_TMPFILE | os.O_WRONLY))
        attempt("read elsewhere", lambda: (outside / "secret").read_text())
        attempt("another's camera", lambda: os.open("/dev/zero", os.O_RDWR))
        attempt("memory file", lambda: os.memfd_create("frame"))
        attempt("start a program", lambda: subprocess.run(["true"]))
        attempt("connect elsewhere", lambda: socket.create_connection(("127.0.0.1", 9), 1))
        attempt("connect to the service", lambda: socket.create_connection(("127.0.0.1", 8400), 1))
        attempt("listen", lambda: socket.socket().bind(("127.0.0.1", 0)))
        attempt("raw packets", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW))
        attempt("opencv writes", lambda: (_ for _ in ()).throw(PermissionError)
            if not cv2.imwrite(str(outside / "f.png"), np.zeros((4, 4, 3), np.uint8)) else None)

        in_thread = threading.Thread(target=attempt, args=("thread writes elsewhere", lambda: other.write_bytes(b"x")))
        in_thread.start(); in_thread.join()
        libc = ctypes.CDLL(None, use_errno=True)
        traceable = libc.prctl(4, 1, 0, 0, 0)
        tasks = [Path("/proc/self/task", t, "status").read_text() for t in os.listdir("/proc/self/task")]
        tell(counted=len(results), threads=len(tasks), filtered=sum("Seccomp:\\t2" in t for t in tasks),
             traceable=[traceable, libc.prctl(3, 0, 0, 0, 0)],
             ring=libc.syscall(425, 1, 0), page=libc.syscall(101 if os.uname().machine == "x86_64" else 117, 0))
        """,
    )


@needs_landlock
def test_nothing_is_written_outside_the_own_folder(tried: dict[str, Any]) -> None:
    outcome = tried["tried"]
    assert outcome["write own"] == outcome["rename own"] == "done"
    for what in (
        "write elsewhere",
        "append elsewhere",
        "truncate elsewhere",
        "rename out",
        "link out",
        "symlink",
        "write /tmp",
        "write /dev/shm",
        "anonymous file",
        "thread writes elsewhere",
        "opencv writes",
    ):
        assert outcome[what] in ("PermissionError", "OSError"), what
    assert not Path("/tmp/headroom-frame").exists()


@needs_landlock
def test_what_it_does_not_need_cannot_be_read(tried: dict[str, Any]) -> None:
    assert tried["tried"]["read elsewhere"] == "PermissionError"
    assert tried["tried"]["another's camera"] == "PermissionError"


@pytest.mark.skipif(landlock.abi() < 4, reason="this kernel's Landlock does not confine connections")
def test_connections_go_to_the_service_alone(tried: dict[str, Any]) -> None:
    outcome = tried["tried"]
    assert outcome["connect elsewhere"] == outcome["listen"] == "PermissionError"
    assert outcome["connect to the service"] in ("ConnectionRefusedError", "done")
    assert tried["locks"]["network"][0]


def test_calls_that_lead_around_are_refused_in_every_thread(tried: dict[str, Any]) -> None:
    outcome = tried["tried"]
    assert outcome["memory file"] == outcome["start a program"] == "PermissionError"
    assert outcome["raw packets"] in ("OSError", "PermissionError")
    assert tried["traceable"] == [-1, 0], "the process could make itself traceable again"
    assert tried["ring"] == tried["page"] == -1
    assert tried["filtered"] == tried["threads"] >= 2


def test_counting_goes_on_under_the_locks(tried: dict[str, Any]) -> None:
    assert tried["counted"] == 3


def test_every_lock_reports(tried: dict[str, Any]) -> None:
    locks = tried["locks"]
    assert list(locks) == [report.name for report in inspect()]
    for name in ("core dumps", "tracing", "system calls", "frames", "debug switches", "telemetry"):
        assert locks[name][0], (name, locks[name][1])
    assert locks["files"][0] == bool(landlock.abi())
    assert all(why for _, why in locks.values())


def test_without_beginning_anew_other_threads_break_the_files_lock(tmp_path: Path) -> None:
    told = program(
        tmp_path, "threading.Thread(target=sys.stdin.read, daemon=True).start(); locked(restart=False); tell()"
    )
    holds, why = told["locks"]["files"]
    assert not holds
    assert "threads had begun" in why


def test_a_forged_mark_is_not_believed(tmp_path: Path) -> None:
    told = program(
        tmp_path,
        """
        from counter.privacy import locks
        os.environ[locks._MARK] = locks._digest(Confinement((state,), connect=(8400,)))
        threading.Thread(target=sys.stdin.read, daemon=True).start()
        locked(restart=False)
        attempt("write elsewhere", lambda: (outside / "frame").write_bytes(b"x"))
        tell()
        """,
    )
    assert told["tried"]["write elsewhere"] == "done"
    assert not told["locks"]["files"][0]


# -- core dumps and tracing


def _crash(folder: Path, body: str) -> tuple[bool, list[Path]]:
    """Whether the kernel says that it dumped core, and the core files, of a program that wants one and crashes."""
    code = f"""
import os, resource, signal, sys
hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
{body}
os.chdir(sys.argv[1])
os.kill(os.getpid(), signal.SIGSEGV)
"""
    child = subprocess.Popen([sys.executable, "-c", code, str(folder)], cwd=ROOT)
    _, status = os.waitpid(child.pid, 0)
    child.returncode = -os.WTERMSIG(status)
    assert child.returncode == -signal.SIGSEGV
    return os.WCOREDUMP(status), list(folder.glob("*core*"))


def test_a_crash_leaves_no_core(tmp_path: Path) -> None:
    unlocked, locked = tmp_path / "unlocked", tmp_path / "locked"
    unlocked.mkdir()
    locked.mkdir()
    assert _crash(locked, "from counter.privacy import memory; memory.forbid_dumps()") == (False, [])
    if not _crash(unlocked, "")[0]:
        pytest.skip("this machine dumps nobody's core: the difference cannot be shown")


TRACING = """
import ctypes, os, sys
from pathlib import Path
import counter
from counter.privacy import Confinement, lock

def as_nobody(action):
    # Children by fork: a user without rights may not be able to reach this interpreter's files.
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        if os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
        action(writing)
        os._exit(0)
    os.close(writing)
    return child, reading

def target(locked):
    def run(writing):
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # what every ordinary program is
        if locked:
            lock(Confinement((Path(sys.argv[1]),)), restart=False)
        os.write(writing, b".")
        import time; time.sleep(60)
    return run

def tracer(pid):
    def run(writing):
        libc = ctypes.CDLL(None, use_errno=True)
        libc.ptrace.argtypes = [ctypes.c_long] * 4
        try:
            os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY)); read = True
        except OSError:
            read = False
        os.write(writing, bytes([libc.ptrace(16, pid, 0, 0) == 0, read]))
    return run

for locked in (False, True):
    victim, ready = as_nobody(target(locked))
    os.read(ready, 1)
    spy, answer = as_nobody(tracer(victim))
    print(*os.read(answer, 2))
    os.waitpid(spy, 0)
    os.kill(victim, 9); os.waitpid(victim, 0)
"""


def test_processes_of_the_same_user_cannot_trace_or_read_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRACING, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    ordinary, locked = done.stdout.splitlines()
    assert locked == "0 0", "another process of the same user attached to it, or opened its memory"
    if ordinary == "0 0":
        pytest.skip("tracing is forbidden here for everybody (Yama): the difference cannot be shown")


# -- swap


def _swaps(tmp_path: Path, *names: str) -> Path:
    lines = ["Filename\tType\tSize\tUsed\tPriority", *(f"{name}\tfile\t1000\t0\t-2" for name in names)]
    path = tmp_path / "swaps"
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize(
    ("locked", "swaps", "holds", "says"),
    [
        (True, (), True, "locked into RAM"),
        (True, ("/swapfile",), True, "locked into RAM"),
        (False, (), True, "there is no swap"),
        (False, ("/dev/zram0",), True, "compressed RAM alone"),
        (False, ("/dev/zram0", "/var/swap"), False, "/var/swap"),
        (False, ("/swapfile",), False, "LimitMEMLOCK=infinity"),
    ],
)
def test_swap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, locked: bool, swaps: tuple[str, ...], holds: bool, says: str
) -> None:
    monkeypatch.setattr(memory, "_locked", lambda: locked)
    monkeypatch.setattr(memory, "_hibernates", lambda: False)
    report = memory.swap_report(_swaps(tmp_path, *swaps))
    assert (report.holds, says in report.why) == (holds, True), report


def test_hibernation_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_locked", lambda: True)
    monkeypatch.setattr(memory, "_hibernates", lambda: True)
    report = memory.swap_report(_swaps(tmp_path, "/swapfile"))
    assert not report.holds
    assert "hibernation" in report.why


@pytest.mark.parametrize(
    ("state", "resume", "can"),
    [("freeze mem disk", "8:2", True), ("freeze mem disk", "0:0", False), ("freeze mem", "8:2", False)],
)
def test_hibernation_counts_where_it_is_set_up(tmp_path: Path, state: str, resume: str, can: bool) -> None:
    (tmp_path / "state").write_text(f"{state}\n")
    (tmp_path / "resume").write_text(f"{resume}\n")
    assert memory._hibernates(tmp_path) == can
    assert not memory._hibernates(tmp_path / "no-such-machine")


def test_pages_are_locked_where_the_limit_allows(tmp_path: Path) -> None:
    told = program(
        tmp_path,
        """
        locked()
        import numpy as np
        later = np.ones((64, 1024, 1024), np.uint8)  # allocated after the lock: the future counts too
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        tell(locked=int(fields["VmLck"].split()[0]), resident=int(fields["VmRSS"].split()[0]))
        """,
    )
    if told["locked"] == 0:
        assert "not locked" in told["locks"]["swap"][1]
        pytest.skip("this user may not lock memory: the report says so")
    assert told["locked"] >= told["resident"] > 64 * 1024


# -- frames and switches


def test_a_frame_is_black_after_its_use_whatever_happens() -> None:
    frame = np.full((8, 8, 3), 200, np.uint8)

    def count() -> None:
        with in_use(frame) as seen:
            assert seen.max() == 200
            raise RuntimeError("a detector broke")

    with pytest.raises(RuntimeError):
        count()
    assert not frame.any()
    assert frames_report().holds


@pytest.mark.parametrize("switch", DEBUG_SWITCHES)
def test_a_switch_that_records_breaks_its_lock(monkeypatch: pytest.MonkeyPatch, switch: str) -> None:
    monkeypatch.setenv(switch, "1")
    report = debug_report()
    assert not report.holds
    assert switch in report.why


def test_telemetry_is_off_before_onnx_runtime_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert telemetry_report().holds
    told = program(
        tmp_path,
        "tell(names=[Path('/proc/self/task', t, 'comm').read_text() for t in os.listdir('/proc/self/task')])",
        OPENBLAS_NUM_THREADS="1",
        XDG_CACHE_HOME=str(tmp_path),
        HOME=str(tmp_path),
    )
    assert len(told["names"]) == 1, "a library began a thread when it was imported"
    assert not list(tmp_path.rglob("*onnxruntime*"))
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    assert not telemetry_report().holds


# -- again


def test_locked_twice_is_locked_once(tmp_path: Path) -> None:
    """A sensor that begins anew inside its process asks again: nothing is stacked, and nothing is let go."""
    told = program(
        tmp_path,
        """
        first = [r.name for r in locked() if r.holds]
        threading.Thread(target=sys.stdin.read, daemon=True).start()
        second = [r.name for r in locked() if r.holds]
        tell(same=first == second, filters=[line.split()[1] for line in
            Path("/proc/self/status").read_text().splitlines() if line.startswith("Seccomp_filters")])
        """,
    )
    assert told["same"]
    assert told["filters"] in ([], ["1"])
