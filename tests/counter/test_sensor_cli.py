"""``headroom sensor init|check|status|run`` as a person meets them."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from counter.agent.checks import _model, check_camera
from counter.agent.settings import CameraSettings, parse_settings
from counter.agent.starting import confinement
from counter.agent.summary import faults_of
from counter.cli._sensor_tables import print_status
from headroom import cli
from tests.counter.agent_parts import enrol
from uplink.identity import Identity, save_sensor_key
from uplink.keyfiles import encode_key
from uplink.spool import SPOOL_FOLDER, Spool
from uplink.testing import ReferenceService, serving

CLIP = Path(__file__).parents[1] / "clips" / "meeting-room-rendered.mp4"


def sensor(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["sensor", *map(str, arguments)])


def test_init_writes_a_file_that_check_and_run_read(tmp_path: Path) -> None:
    out = tmp_path / "sensor.toml"
    first = sensor("init", "--out", out, "--camera", "rtsp://a:secret@192.0.2.1/x", "--zone", "Europe/Brussels")
    assert first.exit_code == 0, first.output
    assert "Next: headroom sensor check" in first.output
    assert out.stat().st_mode & 0o077 == 0  # it may hold a camera's password
    assert parse_settings(out.read_text()).hours.zone == "Europe/Brussels"
    again = sensor("init", "--out", out)
    assert again.exit_code == 2
    assert "--force replaces it" in again.output
    wrong = sensor("init", "--out", tmp_path / "x.toml", "--zone", "Brussels")
    assert wrong.exit_code == 2
    assert "did you mean Europe/Brussels" in wrong.output
    assert not (tmp_path / "x.toml").exists()


def test_init_says_how_to_go_on_and_where_a_scene_belongs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "door.toml").write_text('mode = "door"\n')
    wrong = sensor("init", "--state", "state", "--scene", "door.toml")
    assert wrong.exit_code == 2
    assert "cp door.toml state/" in wrong.output
    first = sensor("init", "--state", "state")
    assert "Next: headroom sensor check --state state" in first.output


def test_status_without_an_enrolment_says_so(tmp_path: Path) -> None:
    result = sensor("status", "--state", tmp_path)
    assert result.exit_code == 1
    assert "not enrolled yet: headroom sensor enrol" in result.output


def test_moments_are_shown_on_the_sites_own_clock(capsys: pytest.CaptureFixture[str]) -> None:
    document = {
        "running": True,
        "started": "2026-07-06T05:30:00+00:00",
        "measuring": True,
        "next_change": "2026-07-06T20:00:00+00:00",
        "zone": "Europe/Amsterdam",
        "cameras": [],
        "board": {"temperature": None, "memory_mib": 180.0, "load": 0.5},
        "tunnel": {"state": "none", "words": "-"},
    }
    print_status(document, [])
    out = capsys.readouterr().out
    assert "since Mon 2026-07-06 07:30: measuring, until Mon 2026-07-06 22:00 (Europe/Amsterdam)" in out


def test_a_narrow_terminal_cuts_addresses_and_nothing_else(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    camera = {
        "source": "rtsp://192.0.2.7/a/very/long/path/of/a/stream",
        "present": 12,
        "entered": 1204,
        "left": 1198,
        "rate": 10.0,
        "uplink": {"waiting": 0, "last_success_seconds_ago": 9.0},
    }
    document = {
        "running": True,
        "started": "2026-07-06T05:30:00+00:00",
        "measuring": True,
        "next_change": None,
        "zone": "UTC",
        "cameras": [
            camera | {"sensor_id": "lecture-hall-3-south", "state": "counting", "health": ["ok"]},
            camera | {"sensor_id": "hall-3", "state": "away", "health": ["no_signal", "overloaded"]},
        ],
        "board": {"temperature": None, "memory_mib": 180.0, "load": 0.5},
        "tunnel": {"state": "none", "words": "-"},
    }
    print_status(document, [])
    out = capsys.readouterr().out
    for words in ("lecture-hall-3-south", "counting", "no_signal, overloaded", "1204", "1198", "10/s", "9 s ago"):
        assert words in out


@pytest.mark.parametrize("command", ["run", "check"])
def test_settings_that_cannot_be_used_end_with_2_and_name_the_field(command: str, tmp_path: Path) -> None:
    missing = sensor(command, "--config", tmp_path / "none.toml", "--state", tmp_path)
    assert missing.exit_code == 2
    assert "headroom sensor init" in missing.output
    (tmp_path / "sensor.toml").write_text('[[camera]]\nsource = "0"\nfps = 0.0\n')
    wrong = sensor(command, "--state", tmp_path)
    assert wrong.exit_code == 2
    assert "camera[0].fps = 0.0" in wrong.output


def test_run_without_enrolment_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "sensor.toml").write_text(f'[[camera]]\nsource = "{CLIP}"\n')
    result = sensor("run", "--state", tmp_path, "--unlocked")
    assert result.exit_code == 2
    assert "headroom sensor enrol" in result.output


def test_check_finds_everything_well_and_says_so(tmp_path: Path) -> None:
    service = ReferenceService()
    key = service.keys.sensor_key("hall")
    assert key is not None
    (tmp_path / "sensor.toml").write_text(f'[[camera]]\nsource = "{CLIP}"\nsensor_id = "hall"\nthreads = 1\n')
    with serving(service) as url:
        seal = encode_key(service.seal_keys.public_key)
        Identity(sensor_id="hall", service_url=url, tunnel_address="", service_seal_key=seal).save(tmp_path)
        save_sensor_key(tmp_path, key)
        rear = Identity(sensor_id="hall-rear", service_url=url, service_seal_key=seal, board="hall")
        rear.save(tmp_path / "hall-rear")
        result = sensor("check", "--state", tmp_path, "--json")
        assert result.exit_code == 0, result.output
        checks = {item["what"]: item for item in json.loads(result.stdout)}
        assert {item["state"] for item in checks.values()} <= {"ok", "warn"}
        assert checks["service hall"]["state"] == "ok"
        assert re.match(r"not readable here: |\d+\.\d W: ", checks["power"]["words"])
        assert checks["camera hall"]["words"].startswith("416x256")
        assert service.stored == {}
        assert checks["sensor hall-rear"]["state"] == "warn"
        assert "no camera counts as it" in checks["sensor hall-rear"]["words"]
    down = sensor("check", "--state", tmp_path)
    assert down.exit_code == 1
    assert "does the service run" in down.output
    assert "tunnel" not in down.output  # it was enrolled without one


def test_status_without_a_sensor_ends_with_1(tmp_path: Path) -> None:
    result = sensor("status", "--state", tmp_path, "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["running"] is False
    assert "systemctl start" in document["faults"][0]


def test_every_fault_of_a_status_is_said_with_what_to_do() -> None:
    camera = {
        "sensor_id": "hall",
        "state": "counting",
        "reason": None,
        "health": ["ok"],
        "uplink": {"disk_error": "", "last_error": "", "waiting": 0, "clock_skew_seconds": 0.2},
    }
    well = {"running": True, "cameras": [camera], "locks": [], "tunnel": {"state": "ok"}, "board": {}}
    assert faults_of(well) == []
    uplink = {"disk_error": "No space left", "last_error": "refused", "waiting": 40, "clock_skew_seconds": -90.0}
    sick = well | {
        "cameras": [
            camera | {"health": ["blocked", "overloaded"], "reached": 8.5, "enough": 9.0, "uplink": uplink},
            camera | {"health": ["no_signal"], "state": "away", "reason": "unplugged"},
            camera | {"health": ["no_signal"]},
            camera | {"health": ["no_signal"], "state": "failed", "reason": "RuntimeError: broke", "failures": 3},
        ],
        "locks": [
            {"name": "swap", "holds": False, "why": "limit", "required": True},
            {"name": "network", "holds": False, "why": "old kernel", "required": False},
        ],
        "tunnel": {"state": "stale", "words": "check the cable"},
        "board": {"swapped_kib": 4},
        "hung": ["hall"],
    }
    text = "\n".join(faults_of(sick))
    for words in (
        "lock swap does not hold",
        "no sign of life",
        "over half of the view is covered",
        "cannot keep up",
        "looked at 8.5 times/s; less than 9 are too few",
        "No space left",
        "40 records wait: refused",
        "+90 s from the service's",
        "no pictures (unplugged)",
        "it failed 3 times (RuntimeError: broke) and begins anew by itself",
        "frozen",
        "tunnel stale: check the cable",
        "swapoff",
    ):
        assert words in text
    assert "network" not in text


def test_the_lock_reaches_what_the_settings_name_and_nothing_else(tmp_path: Path) -> None:
    text = (
        f'[[camera]]\nsensor_id = "a"\nsource = "{CLIP}"\n'
        '[[camera]]\nsensor_id = "b"\nsource = "/dev/video7"\n'
        '[[camera]]\nsensor_id = "c"\nsource = "rtsp://u:p@192.0.2.1/x"\n'
        '[[camera]]\nsensor_id = "d"\nsource = "http://192.0.2.1:8081/x"\n'
    )
    plan = confinement(parse_settings(text), tmp_path / "sensor.toml", tmp_path / "state", enrolled=False)
    assert plan.write == (tmp_path / "state",)
    assert plan.devices == (Path("/dev/video7"),)
    assert plan.connect == (554, 8081)
    assert CLIP.resolve() in plan.read


def test_a_camera_that_is_not_there_is_checked_with_its_reason() -> None:
    class Quick:
        mono = 0.0

        def time(self) -> float:
            return 0.0

        def monotonic(self) -> float:
            self.mono += 5.0
            return self.mono

        def sleep(self, seconds: float) -> None: ...
        def wait(self, event: object, seconds: float) -> bool:
            return False

    class Nothing:
        name, failure, ended, rate = "x", "/dev/video7 is not there; is it plugged in?", False, None

        def read(self, timeout: float) -> None:
            return None

        def close(self) -> None: ...

    found = check_camera(CameraSettings(source="/dev/video7"), Quick(), lambda *_: Nothing())
    assert found.state == "fail"
    assert "is it plugged in" in found.words
    broken = check_camera(CameraSettings(source="gopher://x"), Quick())
    assert "gopher:// is not one of" in broken.words


def test_help_has_examples() -> None:
    for command in ("run", "init", "check", "status"):
        result = sensor(command, "--help")
        assert result.exit_code == 0
        assert f"headroom sensor {command}" in result.output


def test_a_second_run_on_a_state_folder_says_that_one_works_there(tmp_path: Path) -> None:
    service = ReferenceService()
    enrol(tmp_path, service)
    (tmp_path / "sensor.toml").write_text(f'[[camera]]\nsource = "{CLIP}"\n')
    with closing(Spool(tmp_path / SPOOL_FOLDER, "hall", service.seal_keys.public_key)):
        result = sensor("run", "--state", tmp_path, "--unlocked")
    assert result.exit_code == 1
    assert "works with this state folder already" in result.output
    assert f"headroom sensor status --state {tmp_path}" in result.output


def test_check_asks_whether_a_rate_that_was_set_can_be_reached() -> None:
    many = "".join(f'[[camera]]\nsource = "{CLIP}"\nfps = 60.0\nthreads = 1\nsensor_id = "a{i}"\n' for i in range(16))
    found = _model(parse_settings(many).camera[0], 16)
    assert found.state == "warn"
    assert "too slow here for 60 looks/s" in found.words
    assert "a lower `fps`" in found.todo
