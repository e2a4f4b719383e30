"""``headroom count --send``: from moving pictures through the spool into a service that keeps the contract."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

cv2 = pytest.importorskip("cv2")
np = pytest.importorskip("numpy")

from counter.cli.count import count  # noqa: E402
from counter.pipeline import PeopleCounter  # noqa: E402
from counter.types import Detections  # noqa: E402
from uplink.identity import Identity, save_sensor_key  # noqa: E402
from uplink.keyfiles import encode_key  # noqa: E402
from uplink.messages import CountRecord  # noqa: E402
from uplink.spool import read_status  # noqa: E402
from uplink.testing import ReferenceService, serving  # noqa: E402

START = "2026-11-22T07:00:00Z"


@pytest.fixture
def enrol(fast_folder: Path, service: ReferenceService):
    service._clock = time.time

    def enrolled(url: str) -> Path:
        seal = encode_key(service.seal_keys.public_key)
        Identity(sensor_id="hall-3", service_url=url, service_seal_key=seal).save(fast_folder)
        save_sensor_key(fast_folder, service.keys.sensor_key("hall-3"))
        return fast_folder

    return enrolled


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Six seconds, two pictures a second: one bright square stays, a second one comes in the middle."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(12):
        picture = np.full((128, 192, 3), 20, np.uint8)
        for x in (30, 120)[: 1 + number // 6]:
            cv2.rectangle(picture, (x, 60), (x + 16, 80), (240, 240, 240), -1)
        cv2.imwrite(str(folder / f"{number:03d}.png"), picture)
    return folder


def see_squares(frame: np.ndarray) -> Detections:
    """A detector for bright squares on dark ground."""
    _, _, stats, _ = cv2.connectedComponentsWithStats((frame[:, :, 1] > 128).astype(np.uint8))
    boxes = [[x, y, x + w, y + h] for x, y, w, h, area in stats[1:] if area > 60]
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), 0.9, np.float32))


@pytest.fixture(autouse=True)
def square_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(model: object, *args: Any, **options: Any) -> PeopleCounter:
        return PeopleCounter(see_squares, *args, skip_still=False, **options)

    monkeypatch.setattr("counter.cli.count.PeopleCounter", make)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(count, list(arguments))


def test_what_was_counted_is_what_is_stored(pictures: Path, enrol, service: ReferenceService) -> None:
    with serving(service) as url:
        state = enrol(url)
        arguments = [str(pictures), "--fps", "2", "--interval", "2", "--start", START, "--state", str(state)]
        result = run(*arguments, "--send", "--json")
        assert result.exit_code == 0, result.output
        counted = [CountRecord.model_validate(each) for each in json.loads(result.stdout)["records"]]
        assert len(counted) == 3
        assert {each.present_max for each in counted} >= {1, 2}
        assert list(service.stored.values()) == counted
        assert {record.sensor_id for record in service.stored.values()} == {"hall-3"}
        again = run(*arguments, "--send")
        assert "all delivered" in again.output
        assert len(service.stored) == 3
        assert not service.conflicts


def test_without_a_link_the_records_wait_in_the_spool(pictures: Path, enrol) -> None:
    state = enrol("http://127.0.0.1:1")
    result = run(str(pictures), "--fps", "2", "--interval", "2", "--start", START, "--state", str(state), "--send")
    assert result.exit_code == 0, result.output
    assert "3 wait: headroom sensor send" in result.output
    assert read_status(state / "spool").waiting == 3


@pytest.mark.parametrize(
    ("more", "text"),
    [([], "when the recording began"), (["--start", START, "--sensor-id", "hall-4"], "enrolled as 'hall-3'")],
)
def test_what_does_not_fit_is_refused(more: list[str], text: str, pictures: Path, enrol) -> None:
    state = enrol("http://127.0.0.1:1")
    result = run(str(pictures), "--fps", "2", "--send", "--state", str(state), *more)
    assert result.exit_code == 2
    assert text in " ".join(result.output.split())


def test_a_sensor_that_is_not_enrolled_is_told_how(pictures: Path, tmp_path: Path) -> None:
    result = run(str(pictures), "--fps", "2", "--start", START, "--send", "--state", str(tmp_path))
    assert result.exit_code == 2
    assert "headroom sensor enrol" in " ".join(result.output.split())
