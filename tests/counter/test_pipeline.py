"""The people counter as a whole, with detections from a script instead of a network."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from counter import CountRecord, Detections, Direction, Frame, Health, Line, PeopleCounter, Zone

W, H = 640, 480
VIEW = np.random.default_rng(3).integers(30, 220, (48, 64, 3), np.uint8).repeat(10, 0).repeat(10, 1)
Box = tuple[float, float, float, float]


def found(*boxes: Box) -> Detections:
    return Detections(np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), 0.8, np.float32))


def person(x: float, y: float) -> Box:
    return (x - 30, y - 75, x + 30, y + 75)


def painted(boxes: list[Box]) -> Frame:
    frame = VIEW.copy()
    for x1, y1, x2, y2 in boxes:
        frame[max(int(y1), 0) : int(y2), max(int(x1), 0) : int(x2)] = 250
    return frame


class Script:
    """A detector that knows who is where at each frame it is shown."""

    def __init__(self, at: Callable[[int], list[Box]]) -> None:
        self.at, self.frame, self.calls = at, 0, 0

    def detect(self, frame: Frame) -> Detections:
        self.calls += 1
        return found(*self.at(self.frame))


def play(counter: PeopleCounter, script: Script, frames: int, fps: float = 10.0, begin: int = 0) -> list:  # type: ignore[type-arg]
    results = []
    for i in range(begin, begin + frames):
        script.frame = i
        results.append(counter.update(painted(script.at(i)), i / fps))
    return results


def walker(i: int) -> list[Box]:
    return [person(60 + 8 * i, 240)] if i < 65 else []


def test_a_walk_across_a_line() -> None:
    script = Script(walker)
    counter = PeopleCounter(script, lines=[Line((0.5, 0.9), (0.5, 0.1), "door")])
    results = play(counter, script, 80)
    crossings = [c for r in results for c in r.crossings]
    assert [(c.line, c.direction) for c in crossings] == [("door", Direction.ENTERED)]
    assert crossings[0].t == pytest.approx((320 - 60) / 80, abs=0.2)
    assert results[30].presence == {"": 1}
    assert results[79].presence == {"": 0}
    assert results[30].occupancy == 0
    assert results[79].occupancy == 1
    records = counter.close()
    assert [(r.entered, r.left) for r in records] == [(1, 0)]
    assert set(results[30].stage_ms) == {"motion", "detect", "track", "count"}


def test_zones_are_counted_apart_and_their_union_is_reported() -> None:
    def two(_: int) -> list[Box]:
        return [person(100, 240), person(500, 240)]

    left = Zone("left", ((0, 0), (0.5, 0), (0.5, 1), (0, 1)))
    all_of_it = Zone("all", ((0, 0), (1, 0), (1, 1), (0, 1)))
    script = Script(two)
    counter = PeopleCounter(script, zones=[left, all_of_it])
    assert play(counter, script, 30)[-1].presence == {"": 2, "left": 1, "all": 2}
    assert [(r.present, r.present_max) for r in counter.close()] == [(2, 2)]


def test_the_network_rests_in_a_still_room_and_nobody_is_lost() -> None:
    def seated(_: int) -> list[Box]:
        return [person(100 + 100 * k, 240) for k in range(5)]

    script = Script(seated)
    counter = PeopleCounter(script, mode="room")
    results = play(counter, script, 600)
    assert {r.presence[""] for r in results[5:]} == {5}
    assert script.calls < 60
    assert [r.present for r in counter.close()] == [5]
    assert sum(r.inferred for r in results) == script.calls
    awake = Script(seated)
    assert not [r for r in play(PeopleCounter(awake, skip_still=False), awake, 50) if not r.inferred]


def test_somebody_who_comes_in_wakes_the_network_at_once() -> None:
    def late(i: int) -> list[Box]:
        return [person(100, 240)] + ([person(60 + 8 * (i - 200), 300)] if 200 <= i < 250 else [])

    script = Script(late)
    counter = PeopleCounter(script, lines=["0.5,0.9,0.5,0.1"])
    results = play(counter, script, 300)
    assert not results[199].inferred
    assert results[200].inferred
    assert sum(len(r.crossings) for r in results) == 1


def test_another_frame_size_ends_tracks_and_counts_nothing() -> None:
    script = Script(lambda _: [person(310, 240)])
    counter = PeopleCounter(script, lines=["0.5,0.9,0.5,0.1"])
    play(counter, script, 20)
    small = Script(lambda _: [(170.0, 80.0, 200.0, 160.0)])
    counter.detector = small
    results = [counter.update(painted([])[::2, ::2], 2.0 + i / 10) for i in range(20)]
    assert results[0].tracks == ()
    assert not [c for r in results for c in r.crossings]
    assert results[-1].presence[""] == 1
    assert results[-1].tracks[0].id > 1


def test_a_pause_ends_tracks_and_is_not_covered() -> None:
    script = Script(lambda _: [person(310, 240)])
    counter = PeopleCounter(script)
    play(counter, script, 100)
    assert counter.update(VIEW, 40.0).tracks == ()
    assert counter.close()[0].coverage == pytest.approx(9.9 / 60, abs=0.01)


def test_records_go_to_the_callback_or_wait() -> None:
    seen: list[CountRecord] = []
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    for on_record in (seen.append, None):
        script = Script(walker)
        counter = PeopleCounter(script, interval=5, sensor_id="room-1", start=noon, on_record=on_record)
        play(counter, script, 120)
        waiting = counter.records() + counter.close()
        assert len(waiting) == (0 if on_record else 3)
    assert [r.start for r in seen] == [noon + timedelta(seconds=5 * k) for k in range(3)]
    assert {r.sensor_id for r in seen} == {"room-1"}
    assert waiting == seen


def test_health_reaches_the_record() -> None:
    counter = PeopleCounter(Script(walker))
    for i in range(20):
        counter.update(VIEW, i / 10, health={Health.MOVED} if i == 5 else ())
    assert counter.close()[0].health == {Health.MOVED}


def test_in_minus_out_of_the_records_is_that_of_the_frames() -> None:
    def crowd(i: int) -> list[Box]:
        return [person(320 + 280 * np.sin((i + 40 * k) / 30), 100 + 90 * k) for k in range(4)]

    script = Script(crowd)
    counter = PeopleCounter(script, lines=["0.5,1,0.5,0"], interval=10)
    results = play(counter, script, 1000)
    directions = [c.direction for r in results for c in r.crossings]
    records = counter.records() + counter.close()
    assert sum(r.entered for r in records) == directions.count(Direction.ENTERED) > 10
    assert sum(r.left for r in records) == directions.count(Direction.LEFT) > 10
    assert abs(directions.count(Direction.ENTERED) - directions.count(Direction.LEFT)) <= 4


def test_a_function_is_a_detector() -> None:
    counter = PeopleCounter(lambda frame: found(person(100, 200)))
    for i in range(5):
        result = counter.update(VIEW, i / 10)
    assert result.presence == {"": 1}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"lines": ["0,0,2,2"]}, "outside the frame"),
        ({"lines": [Line((0, 0), (1, 1), "a"), Line((0, 1), (1, 0), "a")]}, "'a'"),
        ({"mode": "hall"}, "hall"),
        ({"interval": 0}, "1 to 3600"),
        ({"threshold": 2.0}, "threshold"),
        ({"model": 5}, "int"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        PeopleCounter(**({"model": Script(walker)} | arguments))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("frame", "t", "reason"),
    [
        (np.zeros((4, 4), np.uint8), 1.0, "frame"),
        (np.zeros((4, 4, 3), np.float32), 1.0, "uint8"),
        (np.zeros((0, 4, 3), np.uint8), 1.0, "frame"),
        (VIEW, 0.5, "t: expected"),
        (VIEW, float("nan"), "t: expected"),
    ],
)
def test_wrong_frames_are_refused(frame: Frame, t: float, reason: str) -> None:
    counter = PeopleCounter(Script(walker))
    counter.update(VIEW, 0.5)
    with pytest.raises(ValueError, match=reason):
        counter.update(frame, t)


def test_memory_is_bounded_over_many_people() -> None:
    rng = np.random.default_rng(0)

    def flicker(_: Frame) -> Detections:
        return found(*[person(*rng.uniform((30, 75), (610, 405))) for _ in range(6)])

    zone = Zone("z", ((0, 0), (1, 0), (1, 1), (0, 1)))
    counter = PeopleCounter(flicker, lines=["0.5,1,0.5,0"], zones=[zone], skip_still=False, interval=1)
    most = 0
    for i in range(3000):
        counter.update(VIEW, i / 10)
        most = max(most, len(counter._line_counters[0]), len(counter._zone_counters[0]._stays))
    assert most < 200
    assert len(counter.records()) == 299
