"""`headroom sensor install`: units that systemd accepts, a sandbox that the sensor lives in, a dry run that is one."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest
from click.testing import CliRunner, Result

from counter.install import cli, plan
from counter.install.plan import InstallError, plan_install, plan_removal, still_missing
from counter.install.units import DEFAULT_STATE, SENSOR_UNIT, TUNNEL_UNIT, Place, UnitError, files, unit_text
from uplink.keyfiles import KeyFileError, find_secret, read_secret

LONG = bool(os.environ.get("HEADROOM_LONG"))
UNITS = (SENSOR_UNIT, TUNNEL_UNIT)
CLIP = Path(__file__).parents[1] / "clips" / "door-overhead-rendered.mp4"
ALWAYS = "\n".join(f'{day} = ["00:00-24:00"]' for day in ("mon", "tue", "wed", "thu", "fri", "sat", "sun"))
PR_SET_MDWE, PR_GET_MDWE, REFUSE_EXEC_GAIN = 65, 66, 1


@pytest.fixture
def place() -> Place:
    return Place(Path("/opt/headroom/bin/headroom"))


def analyse(*args: str) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (Debian package systemd)")
    return subprocess.run(["systemd-analyze", *args], capture_output=True, text=True, check=False, timeout=60)


# -- the units


@pytest.mark.parametrize(("unit", "most"), [(SENSOR_UNIT, 2.5), (TUNNEL_UNIT, 3.5)])
def test_exposure_is_ok(unit: str, most: float, place: Place, tmp_path: Path) -> None:
    """systemd's own judgement, from 0 (safe) to 10; below 5 is "OK"."""
    (tmp_path / unit).write_text(unit_text(unit, place))
    said = analyse("security", "--offline=true", "--no-pager", str(tmp_path / unit))
    found = re.search(r"exposure level for \S+: ([0-9.]+) (\w+)", said.stdout)
    assert found is not None, said.stderr
    assert float(found[1]) <= most, said.stdout
    assert found[2] == "OK"


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_understands_every_line(unit: str, tmp_path: Path) -> None:
    (tmp_path / unit).write_text(unit_text(unit, Place(Path("/usr/bin/env"))))
    said = analyse("verify", "--man=no", str(tmp_path / unit))
    ours = [line for line in said.stderr.splitlines() if unit.split(".")[0] in line]
    assert ours == []


@pytest.mark.parametrize("unit", UNITS)
def test_nothing_is_left_to_fill_in(unit: str, place: Place) -> None:
    assert "@PROGRAM@" not in (text := unit_text(unit, place))
    assert not re.search(r"@[A-Z_]+@", text)
    assert "ExecStart=/opt/headroom/bin/headroom " in text


def test_the_promises_are_in_the_unit(place: Place) -> None:
    lines = set(unit_text(SENSOR_UNIT, place).splitlines())
    assert lines >= {
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        "LimitCORE=0",
        "LimitMEMLOCK=infinity",
        "MemorySwapMax=0",
        "MemoryDenyWriteExecute=yes",
        "CapabilityBoundingSet=",
        "DevicePolicy=closed",
        "StateDirectory=headroom",
        "StateDirectoryMode=0700",
        "Type=notify",
        "User=headroom",
    }
    elsewhere = unit_text(SENSOR_UNIT, Place(Path("/opt/x/headroom"), Path("/srv/counts")))
    assert "StateDirectory=" not in elsewhere
    assert "ReadWritePaths=/srv/counts" in elsewhere


def allowed_calls(unit: str, place: Place) -> set[str]:
    """The system calls that the unit's filter lets through, by systemd's own groups."""

    def members(name: str) -> set[str]:
        if not name.startswith("@"):
            return {name}
        said = analyse("syscall-filter", name)
        entries = [line.strip() for line in said.stdout.splitlines()[1:]]
        return set().union(*(members(entry) for entry in entries if entry and not entry.startswith("#")))

    calls: set[str] = set()
    for line in unit_text(unit, place).splitlines():
        if line.startswith("SystemCallFilter="):
            value = line.partition("=")[2]
            named = set().union(*(members(name) for name in value.removeprefix("~").split()))
            calls = calls - named if value.startswith("~") else calls | named
    return calls


@pytest.mark.privacy
def test_the_sensor_lives_in_its_sandbox(place: Place, tmp_path: Path) -> None:
    """A real run: no memory both writable and executable, and no system call that the unit refuses."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_GET_MDWE, 0, 0, 0, 0) < 0:
        pytest.skip("this kernel cannot refuse writable and executable memory (Linux 6.3)")
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    (tmp_path / "sensor.toml").write_text(
        f'interval = 1\n[[camera]]\nsource = "{CLIP}"\nsensor_id = "hall-3"\n'
        '[camera.scene]\nlines = [{name = "door", start = [0.1, 0.5], end = [0.9, 0.5]}]\n'
        f'[hours]\nzone = "UTC"\n{ALWAYS}\n'
    )
    counts = tmp_path / "calls.txt"
    argv = ["strace", "-f", "-c", "-o", str(counts), sys.executable, "-m", "headroom", "sensor", "run"]
    argv += ["--dry-run", "--config", str(tmp_path / "sensor.toml"), "--state", str(tmp_path / "state")]

    def refuse() -> None:
        if libc.prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "PR_SET_MDWE")

    environment = os.environ | {"HEADROOM_CACHE": str(tmp_path / "cache")}
    with subprocess.Popen(
        argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=refuse, env=environment
    ) as traced:
        assert traced.stdout is not None
        assert traced.stderr is not None
        try:
            records = [json.loads(line) for _, line in zip(range(2), traced.stdout, strict=False)]
            for child in psutil.Process(traced.pid).children():
                child.send_signal(signal.SIGTERM)
            log = traced.stderr.read()
            traced.wait(30)
        finally:
            traced.kill()
    assert [record["health"] for record in records] == [["ok"], ["ok"]], log
    made = {line.split()[-1] for line in counts.read_text().splitlines()[2:] if line.split()[-1] not in ("total", "")}
    made = {call for call in made if not call.startswith("-")}
    assert {"mmap", "openat", "mlockall"} <= made
    # A dry run connects to nobody; a real one does.
    wanted = made | {"connect", "sendto", "recvfrom", "sendmsg", "setsockopt", "getpeername", "poll", "flock", "fsync"}
    if psutil.LINUX and os.uname().machine == "x86_64":
        assert wanted - allowed_calls(SENSOR_UNIT, place) == set()


# -- the plan


class System:
    """Notes what would be run."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    def __call__(self, argv: Sequence[str]) -> None:
        self.ran.append(" ".join(argv))


def test_the_order_of_an_installation(tmp_path: Path) -> None:
    place = Place(Path("/opt/headroom/bin/headroom"), Path("/var/lib/headroom-not-here"))
    before = ["systemd-sysusers /etc/sysusers.d/headroom.conf", "systemctl daemon-reload"]
    before += [f"systemctl enable {TUNNEL_UNIT}", f"systemctl enable {SENSOR_UNIT}"]
    assert ran(place) == before, "what is not enrolled is not started"
    assert list(still_missing(place, Path("/"))) == ["headroom sensor enrol", "headroom sensor init"]


def test_what_is_ready_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(Path("/opt/headroom/bin/headroom"), Path("/srv/x"))
    monkeypatch.setattr(plan, "_within", lambda root, path: tmp_path / path.relative_to("/"))
    own = tmp_path / "srv/x/hall-3"  # of several sensors each has a folder of its own
    own.mkdir(parents=True)
    (own / "identity.toml").touch()
    (own.parent / "sensor.toml").touch()
    assert list(still_missing(place, Path("/"))) == []
    assert ran(place)[-1] == f"systemctl restart {SENSOR_UNIT}"
    (own.parent / "tunnel.conf").touch()
    assert ran(place)[-2:] == [f"systemctl restart {TUNNEL_UNIT}", f"systemctl restart {SENSOR_UNIT}"]


def ran(place: Place) -> list[str]:
    """The programs that an installation would run, in order."""
    system = System()
    for step in plan_install(place, Path("/"), start=True, run=system):
        if step.words.startswith("systemctl") or "systemd-sysusers" in step.words:
            step.do()
    return system.ran


def run(*args: str | Path) -> Result:
    program = ["--program", "/opt/headroom/bin/headroom"] if "--program" not in args else []
    return CliRunner().invoke(cli.install, [*map(str, args), *program], prog_name="headroom sensor install")


def test_an_image_there_and_back(tmp_path: Path, place: Place) -> None:
    assert run("--root", tmp_path).exit_code == 0
    assert list(tmp_path.iterdir()) == []  # without --apply nothing happens
    result = run("--root", tmp_path, "--apply", "--json")
    assert result.exit_code == 0, result.output
    assert all(step["done"] for step in json.loads(result.stdout)["steps"])
    for path, text in files(place).items():
        assert (tmp_path / path.relative_to("/")).read_text() == text
    link = tmp_path / "etc/systemd/system/multi-user.target.wants" / SENSOR_UNIT
    assert os.readlink(link) == f"/etc/systemd/system/{SENSOR_UNIT}"
    assert (tmp_path / "var/lib/headroom").stat().st_mode & 0o777 == 0o700
    again = json.loads(run("--root", tmp_path, "--apply", "--json").stdout)
    assert not any(step["needed"] for step in again["steps"])
    (tmp_path / "var/lib/headroom/sensor.key").write_text("kept")
    assert run("--root", tmp_path, "--remove", "--apply").exit_code == 0
    assert [path.name for path in tmp_path.rglob("*") if path.is_file() or path.is_symlink()] == ["sensor.key"]
    assert not any(step.needed for step in plan_removal(place, tmp_path))


def test_here_nothing_is_done_without_systemd() -> None:
    if Path("/run/systemd/system").is_dir():
        pytest.skip("this machine runs systemd")
    before = Path("/etc/systemd/system", SENSOR_UNIT).exists()
    result = run("--apply")
    assert result.exit_code == 1
    assert "--root DIR" in result.output
    assert Path("/etc/systemd/system", SENSOR_UNIT).exists() == before


def test_show_prints_the_files() -> None:
    result = run("--show")
    assert result.exit_code == 0
    assert "[Service]" in result.output
    assert "MemorySwapMax=0" in result.output


@pytest.mark.parametrize(
    ("args", "names"),
    [
        (["--program", "/home/pi/venv/bin/headroom"], "/opt/headroom"),
        (["--state", "/tmp/x"], "hides /tmp"),
        (["--state", "var/lib"], "absolute"),
        (["--state", "/var/lib/a b"], "plain letters"),
        (["--state", "/var/lib/%i"], "plain letters"),
        (["--state", "/var/lib/../../etc"], "plain letters"),
        (["--user", "root"], "never root"),
        (["--user", "x\nExecStart=/bin/sh"], "system user"),
    ],
)
def test_what_a_unit_cannot_hold(args: list[str], names: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert names in result.output


def test_places_are_checked_by_themselves() -> None:
    with pytest.raises(UnitError):
        Place(Path("headroom"))
    assert Place(Path("/usr/bin/headroom")).state == DEFAULT_STATE


def test_a_folder_that_cannot_be_written(tmp_path: Path, place: Place) -> None:
    (tmp_path / "etc").write_text("a file where a folder belongs")
    steps = plan_install(place, tmp_path, start=False)
    with pytest.raises(InstallError, match="cannot be written"):
        steps[0].do()
    assert run("--root", tmp_path, "--apply").exit_code == 1


# -- root looks after a sensor that has a user of its own


def test_root_reads_the_sensors_key_and_trusts_no_tunnel_file_of_it(tmp_path: Path) -> None:
    """`sudo headroom sensor check` works once the unit has handed the folder over; a sensor cannot bend the tunnel."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    for name in ("sensor.key", "tunnel.conf"):
        (tmp_path / name).write_text("secret")
        (tmp_path / name).chmod(0o600)
        os.chown(tmp_path / name, 12345, 12345)
    with pytest.raises(KeyFileError, match="owned by user 12345"):
        find_secret("sensor.key", tmp_path)  # the folder is not that user's
    os.chown(tmp_path, 12345, 12345)
    assert find_secret("sensor.key", tmp_path) == b"secret"
    with pytest.raises(KeyFileError, match="owned by user 12345"):
        read_secret(tmp_path / "tunnel.conf")


# -- an installation without a network


def test_wheels_for_the_board_exist(tmp_path: Path) -> None:
    """Locked packages of the sensor have wheels for 64-bit Raspberry Pi OS: the recipe of docs/sensor.md holds.

    All of them are 95 MB (HEADROOM_LONG=1); the short form asks for the small ones that hold machine code.
    """
    lock = (Path(__file__).parents[2] / "requirements" / "sensor.lock").read_text()
    entries = re.findall(r"^\S[^\n]*(?:\n +[^\n]*)*", lock, re.MULTILINE)
    small = ("cffi", "charset-normalizer", "ml-dtypes", "protobuf", "pydantic-core")
    chosen = [entry for entry in entries if LONG or entry.startswith(tuple(f"{name}==" for name in small))]
    (tmp_path / "sensor.lock").write_text("\n".join(chosen))
    wheels = tmp_path / "wheels"
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries=1"]
    argv += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--python-version=3.11", "--dest", str(wheels)]
    argv += [f"--platform={tag}_aarch64" for tag in ("manylinux_2_28", "manylinux2014", "manylinux_2_17")]
    argv += ["-r", str(tmp_path / "sensor.lock")]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=250)
    if done.returncode and re.search("connection|resolve|timed out|Network|Max retries", done.stderr):
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr
    names = [path.name for path in wheels.iterdir()]
    assert len(names) >= (25 if LONG else len(small))
    assert all(name.endswith(("_aarch64.whl", "-none-any.whl")) for name in names), names
