"""The preview: people are unrecognisable by default, the frame stays as it is, a second stays a second."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from counter.outputs import OutputError
from counter.preview import Painter, Totals
from counter.preview_writer import SheetPreview, open_preview
from counter.scene import parse_scene
from counter.types import Crossing, Detections, Direction, FrameResult, Track

PERSON = (100.0, 60.0, 180.0, 200.0)
SCENE = parse_scene(
    {
        "lines": [{"name": "door", "start": [0.1, 0.9], "end": [0.9, 0.9]}],
        "zones": [{"name": "desk", "points": [[0.55, 0.1], [0.95, 0.1], [0.95, 0.5]]}],
    }
)


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (240, 320, 3), np.uint8)


def result(*, detected: bool = True, tracks: tuple[Track, ...] = (), inferred: bool = True, t: float = 1.0,
           crossings: tuple[Crossing, ...] = ()) -> FrameResult:  # fmt: skip
    boxes = np.array([PERSON] if detected else [], np.float32).reshape(-1, 4)
    found = Detections(boxes, np.full(len(boxes), 0.3, np.float32))
    return FrameResult(t, found, tracks, (), crossings, {"": len(tracks), "desk": 0}, inferred=inferred)


def inside(picture: np.ndarray) -> np.ndarray:
    """The middle of the person, away from what is drawn."""
    return picture[100:160, 115:165].astype(int)


def detail(picture: np.ndarray) -> float:
    """Mean difference between neighbouring pixels: high for noise, low for blocks."""
    return float(np.abs(np.diff(inside(picture), axis=1)).mean())


@pytest.mark.parametrize(
    "seen",
    [
        result(),  # a weak detection that is no track yet
        result(detected=False, tracks=(Track(1, PERSON, 0.9, 0, 1),)),
        result(detected=False, tracks=(Track(1, PERSON, 0.9, 0, 1, hidden=True),)),
    ],
)
def test_everybody_detected_or_tracked_is_pixelated(seen: FrameResult) -> None:
    frame = noise()
    painted = Painter((), ()).paint(frame, seen, Totals())
    assert detail(painted) < detail(frame) / 4
    blocks = np.unique(inside(painted).reshape(-1, 3), axis=0)
    assert len(blocks) < 60, "a person is a few dozen blocks"
    assert np.array_equal(painted[210:, 230:], frame[210:, 230:]), "the rest of the picture stays"


def test_pixelation_holds_while_the_network_rests() -> None:
    painter, frame = Painter((), ()), noise()
    painter.paint(frame, result(), Totals())
    rested = painter.paint(frame, result(detected=False, inferred=False), Totals())
    assert detail(rested) < detail(frame) / 4


def test_it_can_be_switched_off() -> None:
    frame = noise()
    painted = Painter((), (), pixelate=False).paint(frame, result(), Totals())
    assert np.array_equal(inside(painted), inside(frame))


def test_the_frame_itself_is_never_painted_on() -> None:
    frame = noise()
    before = frame.copy()
    Painter(SCENE.lines, SCENE.zones).paint(frame, result(tracks=(Track(1, PERSON, 0.9, 0, 1),)), Totals(1, 2, 3))
    assert np.array_equal(frame, before)


def test_the_entered_side_of_a_line_is_shaded() -> None:
    """A line from left to right: entered people are below it on the picture."""
    frame = np.full((240, 320, 3), 90, np.uint8)
    painted = Painter(SCENE.lines, ()).paint(frame, result(detected=False), Totals())
    below, above = painted[222:226, 60:110].astype(int), painted[206:210, 60:110].astype(int)
    assert (below[..., 1] - below[..., 2]).mean() > 10, "green below"
    assert abs((above[..., 1] - above[..., 2]).mean()) < 3


def test_a_crossing_makes_its_line_shine_for_a_moment() -> None:
    frame = np.full((240, 320, 3), 90, np.uint8)
    painter = Painter(SCENE.lines, ())
    crossed = result(detected=False, crossings=(Crossing("door", Direction.LEFT, 1.0, 1),))

    def colour(seen: FrameResult) -> list[int]:
        return painter.paint(frame, seen, Totals())[215, 60].tolist()

    assert colour(crossed)[2] > 200 > colour(crossed)[0], "red for left"
    assert min(colour(result(detected=False, t=5.0))) > 200, "white again"


def test_odd_boxes_and_tiny_pictures_are_painted() -> None:
    outside = Track(1, (-50.0, -20.0, 900.0, 5.0), 0.9, 0, 1)
    gone = Track(2, (500.0, 500.0, 600.0, 600.0), 0.9, 0, 1)
    for shape in ((16, 16, 3), (48, 64, 3), (1080, 1920, 3)):
        frame = np.zeros(shape, np.uint8)
        assert Painter(SCENE.lines, SCENE.zones).paint(frame, result(tracks=(outside, gone)), Totals()).shape == shape


def times_of(path: Path) -> int:
    capture = cv2.VideoCapture(str(path))
    count = 0
    while capture.grab():
        count += 1
    return count


@pytest.mark.parametrize(
    ("times", "frames"),
    [
        ([0, 0.1, 0.2, 0.3], 4),
        ([5.0, 5.1, 5.2], 3),  # live sources do not begin at 0
        ([0, 0.5, 1.0], 11),  # gaps are filled: a second stays a second
        ([0, 0.01, 0.02, 0.1], 2),  # more than fits is left out
        ([0, 3600.0, 3600.1], 1 + 50 + 1),  # an hour without a camera becomes five seconds
    ],
)
def test_a_second_stays_a_second(tmp_path: Path, times: list[float], frames: int) -> None:
    sink = open_preview(tmp_path / "p.mp4", fps=10)
    for i, t in enumerate(times):
        sink.write(noise(i), t)
    sink.commit()
    assert times_of(tmp_path / "p.mp4") == pytest.approx(frames, abs=1)


def test_a_sheet_keeps_a_bounded_number_of_pictures(tmp_path: Path) -> None:
    sink = open_preview(tmp_path / "p.png", fps=10)
    assert isinstance(sink, SheetPreview)
    for i in range(1000):
        sink.write(np.full((36, 64, 3), i % 256, np.uint8), i / 10)
        assert len(sink._kept) <= 18
    sink.commit()
    assert cv2.imread(str(tmp_path / "p.png")).shape == (108, 192, 3)


@pytest.mark.parametrize("suffix", ["mp4", "gif", "png"])
def test_an_aborted_or_empty_preview_leaves_nothing(tmp_path: Path, suffix: str) -> None:
    sink = open_preview(tmp_path / f"p.{suffix}", fps=10)
    sink.write(noise(), 0)
    sink.abort()
    open_preview(tmp_path / f"p.{suffix}", fps=10).commit()
    assert list(tmp_path.iterdir()) == []


def test_unknown_kinds_are_refused() -> None:
    with pytest.raises(OutputError, match=r"--preview.*\.mp4"):
        open_preview("p.mov.exe", 10)
