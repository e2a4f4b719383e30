"""View health: faults are flagged within 30 s and cleared when they are over; people, light and noise are no faults."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from counter.health import HEIGHT, WIDTH, ViewHealth, correlation, displacement, shrink
from counter.sources import VideoFile
from counter.types import Frame
from uplink.messages import Health

CLIPS = sorted((Path(__file__).parents[1] / "clips").glob("*.mp4"))
REAL = (
    "footage/one-by-one-person-detection.mp4",
    "footage/classroom.gif",
    "footage/people-detection.gif",
    "footage/store-aisle-detection.gif",
    "footage/worker-zone-detection.gif",
    "footage/face-demographics-walking.gif",
    "footage/face-demographics-walking-and-pause.gif",
    "benchmark/wisenet_video1_cam_3.avi",
)
Fault = Callable[[Frame], Frame]
_rng = np.random.default_rng(7)


_BANK = {level: _rng.integers(-level, level + 1, (400, 700, 3), np.int16) for level in (2, 4, 8)}


def noisy(frame: Frame, level: int = 2) -> Frame:
    """The noise of a sensor, without which nothing real is."""
    height, width = frame.shape[:2]
    y, x = int(_rng.integers(0, 400 - height)), int(_rng.integers(0, 700 - width))
    return np.clip(frame + _BANK[level][y : y + height, x : x + width], 0, 255).astype(np.uint8)


def seconds_of(path: Path, most: int = 60) -> list[Frame]:
    """One frame a second, 384 pixels wide; short clips over and over, as they would be played."""
    frames: list[Frame] = []
    base = 0.0
    while len(frames) < most:
        source, last = VideoFile(path, strict=False), 0.0
        for item in source:
            if base + item.t >= len(frames) and len(frames) < most:
                height, width = item.frame.shape[:2]
                frames.append(cv2.resize(item.frame, (384, 384 * height // width), interpolation=cv2.INTER_AREA))
            last = item.t
            if len(frames) >= most:
                break
        base += last + 1.0 / (source.fps or 25.0)
        source.close()
    return frames


def cover(share: float) -> Fault:
    def apply(frame: Frame) -> Frame:
        covered = frame.copy()
        covered[:, : round(frame.shape[1] * share)] = 90
        return noisy(covered)

    return apply


def hand(frame: Frame) -> Frame:
    glow = cv2.resize(cv2.resize(frame, (4, 3), interpolation=cv2.INTER_AREA), frame.shape[1::-1])
    return noisy((glow * 0.3 + 40).astype(np.uint8))


def cardboard(frame: Frame) -> Frame:
    """Something printed in front of two thirds of the view."""
    pattern = np.random.default_rng(3).integers(0, 255, (24, 24, 3)).astype(np.uint8)
    covered = frame.copy()
    width = round(frame.shape[1] * 0.7)
    covered[:, :width] = cv2.resize(pattern, (width, frame.shape[0]), interpolation=cv2.INTER_CUBIC)
    return noisy(covered)


def turned(across: float, down: float, angle: float = 0.0) -> Fault:
    def apply(frame: Frame) -> Frame:
        height, width = frame.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, 1.0)
        matrix[:, 2] += (across * width, down * width)
        moved: Frame = cv2.warpAffine(frame, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
        return noisy(moved)

    return apply


def light(gain: float, offset: float = 0.0) -> Fault:
    return lambda frame: noisy(np.clip(frame * gain + offset, 0, 255).astype(np.uint8))


class Freezer:
    """A stream that repeats its last picture to the bit."""

    def __init__(self) -> None:
        self._held: Frame | None = None

    def __call__(self, frame: Frame) -> Frame:
        self._held = frame if self._held is None else self._held
        return self._held


def watch(
    frames: Sequence[Frame], fault: Fault, calm: int = 30, wrong: int = 40, after: int = 20
) -> tuple[set[Health], float | None, set[Health], float | None]:
    """Faults found before; seconds to the first found during; all found during; seconds to their end after."""
    view, endless = ViewHealth(), itertools.cycle(frames)
    before: set[Health] = set()
    during: set[Health] = set()
    raised = cleared = None
    for t in range(calm + wrong + after):
        frame = next(endless)
        broken = calm <= t < calm + wrong
        found = view.update(fault(frame) if broken else noisy(frame), float(t))
        if t < calm:
            before |= found
        elif broken:
            during |= found
            raised = t - calm if found and raised is None else raised
        elif not found and cleared is None:
            cleared = t - calm - wrong
    return before, raised, during, cleared


@pytest.fixture(scope="module")
def rendered() -> dict[str, list[Frame]]:
    return {path.stem: seconds_of(path, 30) for path in CLIPS}


FAULTS: dict[str, tuple[Callable[[], Fault], set[Health]]] = {
    "lens cap": (lambda: lambda f: noisy(np.zeros_like(f), 4), {Health.DARK}),
    "lights off": (lambda: light(0.05), {Health.DARK}),
    "62 % covered": (lambda: cover(0.62), {Health.BLOCKED}),
    "all covered": (lambda: cover(1.0), {Health.BLOCKED}),
    "a hand on the lens": (lambda: hand, {Health.BLOCKED}),
    "something printed in front": (lambda: cardboard, {Health.BLOCKED, Health.MOVED}),
    "moved by 8 %": (lambda: turned(0.08, 0.0), {Health.MOVED}),
    "moved by 15 %": (lambda: turned(-0.15, 0.05), {Health.MOVED}),
    "frozen": (Freezer, {Health.NO_SIGNAL}),
}


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_fault_is_flagged_within_30_s_and_cleared_when_it_is_over(
    rendered: dict[str, list[Frame]], name: str
) -> None:
    make, expected = FAULTS[name]
    for clip, frames in rendered.items():
        before, raised, during, cleared = watch(frames, make())
        assert not before, clip
        assert raised is not None, clip
        assert raised <= 30, clip
        assert during <= expected, clip
        assert cleared is not None, clip
        assert cleared <= 10, clip


@pytest.mark.parametrize(
    "harmless",
    [light(0.5), light(1.25, 15), cover(0.35), turned(0.012, 0.0), lambda f: noisy(f, 8)],
    ids=["dimmed", "brighter", "a third covered", "shaken", "noise"],
)
def test_light_noise_and_small_things_are_no_fault(rendered: dict[str, list[Frame]], harmless: Fault) -> None:
    for clip, frames in rendered.items():
        before, _, during, _ = watch(frames, harmless, after=5)
        assert not before | during, clip


def test_a_crowd_that_fills_the_view_and_moves_is_no_cover() -> None:
    rng = np.random.default_rng(1)
    room = cv2.resize(rng.integers(40, 200, (30, 50, 3)).astype(np.uint8), (640, 380), interpolation=cv2.INTER_NEAREST)
    people = [cv2.resize(rng.integers(0, 255, (6, 4, 3)).astype(np.uint8), (90, 140)) for _ in range(40)]

    def crowd(frame: Frame) -> Frame:
        full = frame.copy()
        for person in people:
            x, y = int(rng.integers(0, 550)), int(rng.integers(0, 240))
            full[y : y + 140, x : x + 90] = person
        return noisy(full)

    before, _, during, _ = watch([room], crowd)
    assert not before | during


def test_a_view_that_never_showed_anything_is_blocked() -> None:
    view = ViewHealth()
    found = [view.update(noisy(np.full((240, 320, 3), 120, np.uint8)), float(t)) for t in range(30)]
    assert found[-1] == {Health.BLOCKED}


def test_a_camera_that_was_moved_while_it_was_closed_is_found(rendered: dict[str, list[Frame]]) -> None:
    frames = rendered["meeting-room-rendered"]
    view = ViewHealth()
    for t, frame in enumerate(frames):
        assert not view.update(noisy(frame), float(t))
    view.pause()
    moved = turned(0.1, 0.0)
    found = [view.update(moved(frame), 40_000.0 + t) for t, frame in enumerate(frames)]
    assert found[-1] == {Health.MOVED}


def test_another_size_is_another_view(rendered: dict[str, list[Frame]]) -> None:
    view, frames = ViewHealth(), rendered["meeting-room-rendered"]
    for t, frame in enumerate(frames):
        view.update(noisy(frame), float(t))
    found = [view.update(noisy(cv2.resize(f, (320, 180))[:, ::-1].copy()), 30.0 + t) for t, f in enumerate(frames)]
    assert not any(found)


def test_it_looks_once_a_second_whatever_the_rate(rendered: dict[str, list[Frame]]) -> None:
    view, frame = ViewHealth(), rendered["meeting-room-rendered"][0]
    found: Iterable[frozenset[Health]] = [view.update(frame, i / 15) for i in range(15 * 25)]
    assert {Health.NO_SIGNAL} in list(found)


def test_correlation_ignores_light_and_displacement_finds_the_way() -> None:
    picture = shrink(np.random.default_rng(0).integers(0, 255, (90, 160, 3)).astype(np.uint8))
    assert picture.shape == (HEIGHT, WIDTH)
    assert np.allclose(correlation(picture, picture * 0.4 + 20), 1.0, atol=1e-3)
    assert not correlation(picture, np.full_like(picture, 9.0)).any()
    dx, dy, sure = displacement(picture, np.roll(picture, (5, -8), (0, 1)))
    assert (round(dx), round(dy)) == (-8, 5)
    assert sure > 0.5


@pytest.mark.footage
def test_no_false_alarm_on_any_real_clip_and_covers_on_them_are_found(data_folder: Path) -> None:
    for name in REAL:
        frames = seconds_of(data_folder / name, 40)
        view = ViewHealth()
        for t, frame in enumerate(itertools.chain(frames, frames)):
            assert not view.update(frame, float(t)), name
        for fault, expected in ((cover(0.65), Health.BLOCKED), (turned(0.1, 0.02), Health.MOVED)):
            before, raised, during, cleared = watch(frames, fault, calm=20, wrong=31, after=8)
            assert not before, name
            assert raised is not None, name
            assert during == {expected}, name
            assert cleared is not None, name
