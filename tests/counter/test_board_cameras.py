"""Which sensor a camera counts as, on a board with several; and who speaks for the board."""

from __future__ import annotations

from pathlib import Path

import pytest

from counter.agent.outbox import find_board, find_enrolment
from counter.agent.settings import CameraSettings
from counter.agent.summary import enrolled_sensors
from counter.cli._sensor_tables import print_status
from uplink.identity import Identity, IdentityError, save_sensor_key
from uplink.keyfiles import encode_key
from uplink.keys import SensorKey

SEAL = encode_key(b"\x44" * 32)


def enrol(folder: Path, name: str, board: str = "", address: str = "") -> None:
    Identity(
        sensor_id=name, service_url="http://127.0.0.1:9", tunnel_address=address, service_seal_key=SEAL, board=board
    ).save(folder)
    save_sensor_key(folder, SensorKey(name, 1, name[-1].encode() * 32))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "board"
    enrol(folder, "hall", address="10.77.0.2")
    enrol(folder / "hall-rear", "hall-rear", "hall")
    return folder


def camera(name: str | None) -> CameraSettings:
    return CameraSettings(source="0", sensor_id=name)


@pytest.mark.parametrize(("name", "folder"), [("hall", "board"), ("hall-rear", "hall-rear"), (None, "board")])
def test_each_camera_counts_as_the_sensor_that_the_settings_name(state: Path, name: str | None, folder: str) -> None:
    found = find_enrolment(camera(name), state)
    assert (found.identity.sensor_id, found.folder.name) == (name or "hall", folder)
    assert found.identity.load_key(found.folder).sensor_id == (name or "hall")
    assert find_board(camera(name), state).identity.sensor_id == "hall"


def test_a_camera_that_is_not_enrolled_says_what_to_run(state: Path) -> None:
    with pytest.raises(IdentityError, match=r"headroom sensor enrol --camera --state \S+/board"):
        find_enrolment(camera("hall-side"), state)


def test_a_board_that_became_another_takes_its_old_cameras_no_further(state: Path) -> None:
    enrol(state, "aula")
    with pytest.raises(IdentityError, match=r"camera of board hall, but .* is now enrolled as aula"):
        find_enrolment(camera("hall-rear"), state)
    (state / "identity.toml").unlink()
    with pytest.raises(IdentityError, match="not enrolled"):
        find_enrolment(camera("hall-rear"), state)


def test_sensors_side_by_side_without_a_board_go_on_as_before(tmp_path: Path) -> None:
    """Before boards, each camera was enrolled into its subfolder, without a tunnel."""
    for name in ("cam-0", "cam-1"):
        enrol(tmp_path / name, name)
    found = find_enrolment(camera("cam-1"), tmp_path)
    assert found.folder == tmp_path / "cam-1"
    assert find_board(camera("cam-1"), tmp_path) == found


def test_the_status_names_who_is_enrolled(state: Path) -> None:
    assert enrolled_sensors(state) == [
        {"sensor_id": "hall", "board": "", "tunnel_address": "10.77.0.2"},
        {"sensor_id": "hall-rear", "board": "hall", "tunnel_address": "10.77.0.2"},
    ]
    (state / "hall-rear" / "identity.toml").write_text("damaged")
    assert enrolled_sensors(state) == []


def test_the_status_says_in_words_whose_tunnel_the_cameras_share(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = {"running": False, "tunnel": {"state": "ok", "words": "handshake 3 s ago"}}
    print_status(document | {"enrolled": enrolled_sensors(state)}, [])
    assert "board hall: hall-rear speaks through its tunnel (10.77.0.2) too" in capsys.readouterr().out
    print_status(document | {"enrolled": enrolled_sensors(state)[:1]}, [])
    assert "speak" not in capsys.readouterr().out
