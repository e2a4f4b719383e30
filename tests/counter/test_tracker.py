"""The tracker: confirmation, hiding, leaving, ids, memory, and people who do not walk."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counter import Detections, Tracker, TrackerSettings
from counter.boxes import uncut, without_parts
from counter.pipeline import TRACKING
from counter.tracker import TrackerResult, tracks_of

W, H = 640, 480


def found(*boxes: tuple[float, float, float, float], score: float = 0.8) -> Detections:
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), score, np.float32))


def person(x: float, y: float, w: float = 60, h: float = 150) -> tuple[float, float, float, float]:
    return (x - w / 2, y - h / 2, x + w / 2, y + h / 2)


def ids(result: TrackerResult) -> list[int]:
    return result.confirmed.ids.tolist()


def test_tentative_until_seen_for_long_enough() -> None:
    tracker = Tracker(TrackerSettings(threshold=0.4, confirm_seconds=0.3))
    tracker.update(Detections.empty(), -0.1, W, H)  # who is there in the first frame of all waits less
    for i in range(3):  # 0.0, 0.1, 0.2 s
        result = tracker.update(found(person(300, 200), score=0.42), i * 0.1, W, H)
        assert len(result.confirmed) == 0
        assert len(result.tentative) == 1
    result = tracker.update(found(person(300, 200), score=0.42), 0.3, W, H)
    assert (len(result.confirmed), len(result.tentative)) == (1, 0)


def test_a_sure_detector_needs_two_frames() -> None:
    tracker = Tracker()
    assert not ids(tracker.update(found(person(300, 200), score=0.95), 0.0, W, H))
    assert ids(tracker.update(found(person(300, 200), score=0.95), 0.1, W, H))


def test_one_frame_ghosts_are_never_confirmed() -> None:
    tracker = Tracker()
    rng = np.random.default_rng(0)
    for i in range(300):
        ghosts = [person(*rng.uniform((50, 100), (600, 400))) for _ in range(2)] if i % 5 == 0 else []
        result = tracker.update(found(*ghosts, score=0.9), i * 0.1, W, H)
        assert not ids(result)


def test_weak_detections_continue_but_never_begin() -> None:
    tracker = Tracker(TrackerSettings(threshold=0.5, low_threshold=0.1))
    for i in range(50):
        assert not ids(tracker.update(found(person(300, 200), score=0.3), i * 0.1, W, H))
    for i in range(50, 60):
        tracker.update(found(person(300, 200), score=0.8), i * 0.1, W, H)
    for i in range(60, 75):
        result = tracker.update(found(person(300, 200), score=0.2), i * 0.1, W, H)
    assert len(ids(result)) == 1
    assert not tracks_of(result.confirmed, 7.4)[0].hidden


def test_who_walks_is_believed_with_weaker_scores_than_what_stands() -> None:
    walker, coat = Tracker(TrackerSettings(threshold=0.5)), Tracker(TrackerSettings(threshold=0.5))
    for i in range(15):
        walks = walker.update(found(person(200 + 12 * i, 200), score=0.4), i * 0.1, W, H)
        stands = coat.update(found(person(200 + 2 * (i % 2), 200), score=0.4), i * 0.1, W, H)
    assert ids(walks)
    assert not ids(stands)


@pytest.mark.parametrize(
    ("beside", "people"),
    [((0.0, 20.0), 1), ((35.0, 0.0), 1), ((200.0, 0.0), 2)],
    ids=["a part of them", "two at once", "somebody else"],
)
def test_a_faint_box_that_goes_along_is_somebody_only_when_it_is_apart(
    beside: tuple[float, float], people: int
) -> None:
    """Seen from above, networks see parts of a person, and two people as one, in the gait of those whom they know."""
    tracker = Tracker(TrackerSettings(threshold=0.5))
    for i in range(25):
        x, y = 60 + 12 * i, 200
        size = (100, 150) if beside[0] == 35.0 else (48, 90)
        boxes = np.array([person(x, y), person(x + beside[0], y + beside[1], *size)], np.float32)
        result = tracker.update(Detections(boxes, np.array([0.9, 0.4], np.float32)), i * 0.1, W, H)
    assert len(ids(result)) == people


@pytest.mark.parametrize("fps", [5, 10, 25])
def test_two_people_who_pass_each_other_keep_their_ids(fps: int) -> None:
    tracker = Tracker()
    first: dict[int, float] = {}
    for i in range(6 * fps):
        t = i / fps
        result = tracker.update(found(person(60 + 80 * t, 200), person(580 - 80 * t, 240)), t, W, H)
        for track in tracks_of(result.confirmed, t):
            first.setdefault(track.id, track.box[0])
    assert len(first) == 2


def test_somebody_behind_somebody_else_stays_and_comes_back_with_the_same_id() -> None:
    tracker = Tracker()
    for i in range(20):
        result = tracker.update(found(person(200 + 5 * i, 200), person(320, 210, 90, 200)), i * 0.1, W, H)
    before = ids(result)
    for i in range(20, 30):  # hidden for a second
        result = tracker.update(found(person(320, 210, 90, 200)), i * 0.1, W, H)
        assert ids(result) == before
    for i in range(30, 40):
        result = tracker.update(found(person(200 + 5 * i, 200), person(320, 210, 90, 200)), i * 0.1, W, H)
    assert sorted(ids(result)) == sorted(before)


def test_somebody_who_leaves_the_picture_is_not_kept() -> None:
    tracker = Tracker()
    t = 0.0
    for i in range(30):
        t = i * 0.1
        x = 500 + 12 * i
        box = (x - 30, 100.0, min(x + 30, float(W)), 250.0)
        result = tracker.update(found(box) if box[2] - box[0] > 8 else Detections.empty(), t, W, H)
    assert not ids(result)


@pytest.mark.parametrize("fps", [1.0, 2.0])
def test_seated_people_at_one_frame_a_second(fps: float) -> None:
    rng = np.random.default_rng(1)
    tracker = Tracker(TRACKING["room"])
    seats = [(100 + 90 * k, 150 + 100 * row) for k in range(6) for row in range(3)]
    counts = []
    for i in range(120):
        seen = [person(x + rng.normal(0, 2), y + rng.normal(0, 2), 30, 40) for x, y in seats if rng.random() > 0.25]
        counts.append(len(ids(tracker.update(found(*seen, score=0.6), i / fps, W, H))))
    assert min(counts[10:]) >= len(seats) - 1  # a quarter of the detections is missing
    assert np.mean(counts[10:]) > len(seats) - 0.1
    assert max(counts) == len(seats)
    assert max(ids(tracker.update(Detections.empty(), 500, W, H)), default=0) == 0


def test_a_pause_changes_nothing_while_the_picture_is_held() -> None:
    tracker = Tracker()
    for i in range(40):
        tracker.update(found(person(300, 200)), i * 0.1, W, H)
    for i in range(40, 400):
        held = tracker.hold(i * 0.1)
    assert len(ids(held)) == 1
    assert ids(tracker.update(Detections.empty(), 40.0, W, H)) == ids(held)


def test_the_second_box_of_one_person_is_dropped_and_a_person_in_front_is_not() -> None:
    whole, part = (100.0, 100.0, 160.0, 280.0), (102.0, 104.0, 158.0, 200.0)
    in_front = (100.0, 180.0, 160.0, 280.0)
    boxes, scores = without_parts(np.array([part, whole, in_front]), np.array([0.5, 0.7, 0.6]), 0.1)
    assert boxes.tolist() == [list(whole), list(in_front)]
    assert scores.tolist() == [0.7, 0.6]


def test_cut_boxes_get_back_the_size_they_had() -> None:
    restored = uncut(
        np.array([[610.0, 100.0, 640.0, 200.0], [300.0, 100.0, 330.0, 200.0]]), np.full((2, 2), 60.0), (W, H)
    )
    assert restored.tolist() == [[610.0, 100.0, 670.0, 200.0], [300.0, 100.0, 330.0, 200.0]]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 25))
def test_memory_is_bounded_and_ids_never_return(seed: int, fps: int) -> None:
    rng = np.random.default_rng(seed)
    tracker = Tracker(TrackerSettings(max_tracks=30))
    last = 0
    for i in range(60):
        n = int(rng.integers(0, 60))
        centre = rng.uniform((0, 0), (W, H), (n, 2))
        size = rng.uniform(10, 200, (n, 2))
        boxes = np.concatenate((centre - size / 2, centre + size / 2), axis=1).astype(np.float32)
        result = tracker.update(Detections(boxes, rng.random(n).astype(np.float32)), i / fps, W, H)
        assert len(result.confirmed) <= 30
        assert len(result.tentative) <= 30
        everyone = ids(result) + result.tentative.ids.tolist()
        assert len(set(everyone)) == len(everyone)
        new = [k for k in everyone if k > last]
        last = max(everyone, default=last) if new else last
        assert np.isfinite(result.confirmed.state.data).all()


def test_ids_belong_to_the_instance() -> None:
    for _ in range(2):
        tracker = Tracker()
        for i in range(3):
            result = tracker.update(found(person(300, 200)), i * 0.1, W, H)
        assert ids(result) == [1]


@pytest.mark.parametrize(
    ("field", "value"), [("threshold", 1.5), ("low_threshold", 0.9), ("hidden_seconds", -1.0), ("max_tracks", 0)]
)
def test_wrong_settings_are_refused_by_name(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        TrackerSettings(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(("last_score", "counted"), [(0.9, 5), (0.2, 2)])
def test_somebody_who_faded_away_in_the_open_counts_half_as_long(last_score: float, counted: int) -> None:
    tracker = Tracker(TrackerSettings(threshold=0.4, count_seconds=0.2))
    for i in range(50):
        last = tracker.update(found(person(150 + 6 * i, 240), score=0.9 if i < 49 else last_score), i / 25, W, H)
    assert ids(last) == [1]
    hidden = [tracker.update(Detections.empty(), i / 25, W, H) for i in range(50, 56)]
    assert [1 in r.lost for r in hidden] == [False] * counted + [True] * (6 - counted)


def test_boxes_that_are_no_numbers_are_left_out() -> None:
    tracker = Tracker()
    broken = np.array([person(300, 200), (np.nan, 0, 10, 10), (0, 0, np.inf, 10), (50, 50, 40, 40)], np.float32)
    for i in range(10):
        result = tracker.update(Detections(broken, np.full(4, 0.9, np.float32)), i / 10, W, H)
        assert np.isfinite(result.confirmed.state.data).all()
    assert len(result.confirmed) >= 1
    scores = np.array([0.9, np.nan], np.float32)
    both = Detections(np.array([person(300, 200), person(500, 200)], np.float32), scores)
    assert len(Tracker().update(both, 0.0, W, H).tentative) == 1


def test_a_flood_of_boxes_is_cut_to_the_best() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 10_000, (20_000, 2))
    boxes = np.concatenate((corner, corner + 20), axis=1).astype(np.float32)
    scores = rng.random(20_000).astype(np.float32)
    result = Tracker(TrackerSettings(max_tracks=300)).update(Detections(boxes, scores), 0.0, 10_000, 10_000)
    assert len(result.tentative) == 300
    assert result.tentative.scores.min() > 0.98
