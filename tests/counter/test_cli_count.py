"""``headroom count`` end to end on a drawn film with a detector that sees drawn people."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from click.testing import CliRunner, Result

import headroom
from counter.pipeline import PeopleCounter
from counter.sources import LiveSettings, LiveSource
from counter.types import Detections

SIZE = (192, 128)


def see_squares(frame: np.ndarray) -> Detections:
    """A detector for bright squares on dark ground."""
    _, _, stats, _ = cv2.connectedComponentsWithStats((frame[:, :, 1] > 128).astype(np.uint8))
    boxes = [[x, y, x + w, y + h] for x, y, w, h, area in stats[1:] if area > 60]
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), 0.9, np.float32))


def film(path: Path, *, frames: int = 60, fps: float = 10.0) -> Path:
    """One walks down over the middle, one walks up over it later, one stays at the left."""
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"mp4v"), fps, SIZE)
    for i in range(frames):
        picture = np.full((SIZE[1], SIZE[0], 3), 20, np.uint8)
        for x, y in ((30, 80), (90, 3 * i), (140, 128 + 60 - 3 * i)):
            cv2.rectangle(picture, (x, y), (x + 16, y + 20), (240, 240, 240), -1)
        writer.write(picture)
    writer.release()
    return path


@pytest.fixture(autouse=True)
def square_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def make(model: object, *args: Any, **options: Any) -> PeopleCounter:
        return PeopleCounter(see_squares, *args, skip_still=False, **options)

    monkeypatch.setattr("counter.cli.count.PeopleCounter", make)


def run(*args: object) -> Result:
    return CliRunner().invoke(headroom.cli, ["count", *map(str, args)])


def test_json_is_one_object_with_the_promised_fields(tmp_path: Path) -> None:
    result = run(film(tmp_path / "a.mp4"), "--line", "door=0.95,0.5,0.05,0.5", "--interval", 2, "--json")
    assert result.exit_code == 0, result.output
    out = json.loads(result.stdout)
    assert result.stdout.count("\n") == 1
    assert {"frames", "seconds", "entered", "left", "present_final", "present_max", "present_mean", "records",
            "model", "fps"} <= out.keys()  # fmt: skip
    assert out["frames"] == 60
    assert out["seconds"] == pytest.approx(6.0, abs=0.01)
    assert (out["entered"], out["left"]) == (1, 1), (
        "down is left to right of a line that runs leftwards... and up is out"
    )
    assert out["lines"] == {"door": {"entered": 1, "left": 1}}
    assert out["present_max"] == 3
    assert [r["start"] for r in out["records"]] == [f"1970-01-01T00:00:0{s}Z" for s in (0, 2, 4)]
    assert sum(r["entered"] for r in out["records"]) == out["entered"]
    assert sum(r["left"] for r in out["records"]) == out["left"]


def test_the_direction_of_a_line_decides_who_entered(tmp_path: Path) -> None:
    """Walking from the left to the right hand side, seen from the start, is entered."""
    path = film(tmp_path / "a.mp4", frames=38)  # the first walks down; the second is not yet over the line
    down = json.loads(run(path, "--line", "0.4,0.5,0.65,0.5", "--json").stdout)
    assert (down["entered"], down["left"]) == (1, 0), "facing right, down is to the right"
    up = json.loads(run(path, "--line", "0.65,0.5,0.4,0.5", "--json").stdout)
    assert (up["entered"], up["left"]) == (0, 1)


def test_files_agree_with_each_other_and_with_the_start(tmp_path: Path) -> None:
    outs = [tmp_path / f"counts.{s}" for s in ("csv", "jsonl", "parquet")]
    args = [x for out in outs for x in ("--out", out)]
    options = ["--zone", "left=0,0,0.4,0,0.4,1,0,1", "--interval", 2, "--sensor-id", "hall-1"]
    result = run(film(tmp_path / "a.mp4"), *options, "--start", "2026-03-02T09:00:00+01:00", *args, "--json")
    assert result.exit_code == 0, result.output
    records = json.loads(result.stdout)["records"]
    with outs[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    lines = [json.loads(line) for line in outs[1].read_text().splitlines()]
    assert lines == records
    assert [r["start"] for r in rows] == ["2026-03-02T08:00:00Z", "2026-03-02T08:00:02Z", "2026-03-02T08:00:04Z"]
    assert {r["sensor_id"] for r in rows} == {"hall-1"}
    assert [int(r["present"]) for r in rows] == [r["present"] for r in records] == [1, 1, 1]
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(outs[2])
    assert table.column("present").to_pylist() == [1, 1, 1]
    assert str(table.schema.field("start").type) == "timestamp[us, tz=UTC]"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", "counts.csv", "counts.jsonl", "counts.parquet"]


def test_a_scene_file_with_options_on_top(tmp_path: Path) -> None:
    scene = tmp_path / "scene.toml"
    scene.write_text('mode = "room"\n[[lines]]\nname = "door"\nstart = [0.95, 0.5]\nend = [0.05, 0.5]\n')
    out = json.loads(run(film(tmp_path / "a.mp4"), "--scene", scene, "--zone", "0,0,1,0,1,1", "--json").stdout)
    assert out["mode"] == "room"
    assert set(out["lines"]) == {"door"}
    assert set(out["zones"]) == {"zone"}
    again = run("x.mp4", "--scene", scene, "--line", "door=0,0,1,1")
    assert again.exit_code == 2
    assert "'door'" in again.output


def test_masks_hide_what_lies_under_them(tmp_path: Path) -> None:
    scene = tmp_path / "scene.toml"
    scene.write_text('[[masks]]\nname = "mirror"\npoints = [[0, 0], [0.4, 0], [0.4, 1], [0, 1]]\n')
    path = film(tmp_path / "a.mp4", frames=10)
    plain = json.loads(run(path, "--json").stdout)["present_max"]
    assert json.loads(run(path, "--scene", scene, "--json").stdout)["present_max"] == plain - 1


def test_the_summary_is_for_people(tmp_path: Path) -> None:
    result = run(film(tmp_path / "a.mp4"), "--line", "door=0.95,0.5,0.05,0.5", "--out", tmp_path / "c.csv")
    assert result.exit_code == 0
    for word in ("a.mp4", "60 frames", "entered", "left", "frames/s", "c.csv"):
        assert word in result.output


def test_max_seconds_stops_early(tmp_path: Path) -> None:
    out = json.loads(run(film(tmp_path / "a.mp4"), "--max-seconds", 2, "--json").stdout)
    assert out["frames"] == 20
    assert out["seconds"] == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("suffix", ["mp4", "webm", "avi", "gif", "png"])
def test_previews_of_every_kind(tmp_path: Path, suffix: str) -> None:
    target = tmp_path / f"p.{suffix}"
    result = run(film(tmp_path / "a.mp4", frames=20), "--line", "0.95,0.5,0.05,0.5", "--preview", target)
    assert result.exit_code == 0, result.output
    if suffix == "png":
        picture = cv2.imread(str(target))
        assert picture.shape[1] == 3 * SIZE[0]
    else:
        capture = cv2.VideoCapture(str(target))
        ok, picture = capture.read()
        assert ok
        assert picture.shape[1] == SIZE[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4", f"p.{suffix}"]


def test_a_camera_counts_with_the_wall_clock_and_ends_by_max_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    class Camera:
        def read(self, buffer: np.ndarray | None) -> np.ndarray:
            import time

            time.sleep(0.02)
            frame = np.full((128, 192, 3), 20, np.uint8)
            cv2.rectangle(frame, (50, 50), (66, 70), (240, 240, 240), -1)
            return frame

        def release(self) -> None:
            pass

    monkeypatch.setattr("counter.cli._shared.open_source",
                        lambda *_a, **_k: LiveSource(Camera, name="camera 0", settings=LiveSettings()))  # fmt: skip
    result = run("0", "--max-seconds", 1, "--interval", 1, "--json")
    assert result.exit_code == 0, result.output
    out = json.loads(result.stdout)
    assert out["present_final"] == 1
    assert out["records"][0]["start"] > "2026-01-01", "live records carry the wall clock"
    refused = run("0", "--start", "2026-03-02T09:00:00Z")
    assert refused.exit_code == 2
    assert "own clock" in refused.output


def test_a_camera_that_never_answers_ends_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Any:
        raise OSError("no such device")

    source = LiveSource(refuse, name="camera 0", settings=LiveSettings(back_off=0.01, back_off_max=0.02))
    monkeypatch.setattr("counter.cli._shared.open_source", lambda *_a, **_k: source)
    monkeypatch.setattr("counter.cli.count.count_source", _impatient())
    result = run("0")
    assert result.exit_code == 1
    assert "no picture within 0.2 s: OSError: no such device" in result.output


def _impatient() -> Any:
    from functools import partial

    from counter.offline import count_source

    return partial(count_source, patience=0.2)


def test_ctrl_c_in_a_recording_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_a: Any, **_k: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("counter.cli.count.count_source", interrupted)
    result = run(film(tmp_path / "a.mp4"), "--out", tmp_path / "c.csv", "--preview", tmp_path / "p.mp4")
    assert result.exit_code == 130
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
