"""Intervals: medians, coverage, gaps, clocks that jump, and nothing counted twice or lost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counter.counting import IntervalCounter, robust_maximum, weighted_median
from uplink.messages import CountRecord, Health

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def feed(
    counter: IntervalCounter, seconds: float, present: int | None = 1, begin: float = 0.0, fps: float = 10.0
) -> list[CountRecord]:
    records = []
    for i in range(round(seconds * fps)):
        t = begin + i / fps
        records += counter.add(t, NOON + timedelta(seconds=t), present)
    return records


def test_a_full_minute() -> None:
    counter = IntervalCounter("s")
    records = feed(counter, 120.0, 3) + counter.close()
    assert [(r.start, r.present, r.present_max, r.coverage) for r in records] == [
        (NOON, 3, 3, 1.0),
        (NOON + timedelta(minutes=1), 3, 3, 1.0),
    ]


def test_intervals_lie_on_multiples_of_their_length() -> None:
    counter = IntervalCounter("s", seconds=300)
    records = feed(counter, 60.0, 1, begin=290.0) + counter.close()
    assert [r.start for r in records] == [NOON, NOON + timedelta(minutes=5)]
    assert [r.coverage for r in records] == pytest.approx([10 / 300, 50 / 300], abs=1e-3)


def test_a_clip_covers_as_long_as_it_lasts() -> None:
    counter = IntervalCounter("s")
    records = feed(counter, 13.4) + counter.close()
    assert [r.coverage for r in records] == [pytest.approx(13.4 / 60, abs=1e-3)]


def test_a_pause_is_not_covered() -> None:
    counter = IntervalCounter("s", max_gap=2.0)
    records = feed(counter, 20.0, 1) + feed(counter, 20.0, 1, begin=40.0) + counter.close()
    assert records[0].coverage == pytest.approx(39.9 / 60, abs=0.01)


def test_minutes_in_which_no_frame_came_say_nothing() -> None:
    counter = IntervalCounter("s")
    records = feed(counter, 60.0) + feed(counter, 60.0, begin=300.0) + counter.close()
    assert [r.start for r in records] == [NOON, NOON + timedelta(minutes=5)]


def test_a_camera_that_is_away_is_reported_when_told_so() -> None:
    counter = IntervalCounter("s")
    records = feed(counter, 60.0)
    for t in range(61, 200):
        records += counter.advance(t, NOON + timedelta(seconds=t))
    assert [(r.coverage, r.present, set(r.health)) for r in records] == [
        (pytest.approx(1.0, abs=0.02), 1, {Health.OK}),
        (0.0, None, {Health.NO_SIGNAL}),
        (0.0, None, {Health.NO_SIGNAL}),
    ]


def test_health_of_a_moment_marks_the_interval() -> None:
    counter = IntervalCounter("s")
    records = []
    for i in range(700):
        faults = {Health.DARK} if i == 100 else set()
        records += counter.add(i / 10, NOON + timedelta(seconds=i / 10), 1, health=faults)
    records += counter.close()
    assert [set(r.health) for r in records] == [{Health.DARK}, {Health.OK}]


def test_a_view_that_cannot_be_judged_is_not_covered() -> None:
    counter = IntervalCounter("s")
    records = feed(counter, 60.0, None) + feed(counter, 1.0, None, begin=60.0)
    assert [(r.present, r.coverage) for r in records] == [(None, 0.0)]


def test_a_step_forward_of_the_clock_ends_the_interval_early() -> None:
    counter = IntervalCounter("s")
    records = feed(counter, 30.0, 2)
    for i in range(600):
        t = 30.0 + i / 10
        records += counter.add(t, NOON + timedelta(hours=1, seconds=t), 5)
    records += counter.close()
    assert [(r.start, r.present) for r in records] == [
        (NOON, 2),
        (NOON + timedelta(hours=1), 5),
        (NOON + timedelta(hours=1, minutes=1), 5),
    ]
    assert records[0].coverage == pytest.approx(0.5, abs=0.01)


def test_a_step_back_reports_nothing_twice_and_loses_no_crossing() -> None:
    counter = IntervalCounter("s")
    records = []
    entered = 0
    for i in range(6000):
        t = i / 10
        shift = -150.0 if t >= 200 else 0.0
        entered += i % 50 == 0
        records += counter.add(t, NOON + timedelta(seconds=t + shift), 1, entered=int(i % 50 == 0))
    records += counter.close()
    starts = [r.start for r in records]
    assert len(set(starts)) == len(starts)
    assert starts == sorted(starts)
    assert sum(r.entered for r in records) == entered


def test_a_clock_that_was_years_ahead_begins_a_new_line_of_time() -> None:
    counter = IntervalCounter("s")
    records = []
    for i in range(2400):
        t = i / 10
        shift = timedelta(days=2000) if t < 120 else timedelta(0)
        records += counter.add(t, NOON + timedelta(seconds=t) + shift, 1)
    assert NOON + timedelta(minutes=2) in [r.start for r in records]


def test_a_wall_clock_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        IntervalCounter("s").add(0.0, datetime(2026, 3, 2, 12, 0), 1)


@pytest.mark.parametrize(
    ("held", "median", "peak"),
    [
        ({2: 60.0}, 2, 2),
        ({0: 29.0, 3: 31.0}, 3, 3),
        ({0: 31.0, 3: 29.0}, 0, 3),
        ({1: 59.8, 9: 0.2}, 1, 1),  # a flicker of ghosts is no maximum
        ({1: 40.0, 2: 18.0, 3: 1.5, 4: 0.5}, 1, 3),
        ({5: 0.1}, 5, 5),  # all there is
    ],
)
def test_median_and_maximum(held: dict[int, float], median: int, peak: int) -> None:
    assert weighted_median(held) == median
    assert robust_maximum(held, 1.0) == peak


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.integers(0, 50), st.floats(0.01, 60.0), min_size=1))
def test_the_maximum_is_never_below_the_median(held: dict[int, float]) -> None:
    assert weighted_median(held) <= robust_maximum(held, 1.0) <= max(held)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0.04, 5.0), st.integers(0, 9), st.integers(0, 3), st.integers(0, 3)), max_size=200),
    st.sampled_from([1, 7, 60, 300]),
)
def test_every_crossing_is_in_exactly_one_record(frames: list[tuple[float, int, int, int]], seconds: int) -> None:
    counter = IntervalCounter("s", seconds=seconds)
    t, records = 0.0, []
    for dt, present, entered, left in frames:
        t += dt
        records += counter.add(t, NOON + timedelta(seconds=t), present, entered, left)
    records += counter.close()
    assert sum(r.entered for r in records) == sum(f[2] for f in frames)
    assert sum(r.left for r in records) == sum(f[3] for f in frames)
    starts = [r.start for r in records]
    assert starts == sorted(set(starts))
    assert all(0.0 <= r.coverage <= 1.0 for r in records)


def test_a_glance_too_short_to_report_is_no_look() -> None:
    """Ten microseconds of a second are a coverage of 0 in four digits, and nothing observed has no presence."""
    counter = IntervalCounter("s", seconds=1)
    counter.add(0.99999, NOON + timedelta(seconds=0.99999), 1)
    records = counter.add(1.5, NOON + timedelta(seconds=1.5), 1, entered=2)
    assert records[0].coverage == 0.0
    assert records[0].present is None
    assert sum(r.entered for r in [*records, *counter.close()]) == 2


@pytest.mark.parametrize("looked", [True, False])
@pytest.mark.parametrize("short", [0, 1, 2, 3])
def test_a_frame_in_the_last_microseconds_of_an_interval_does_not_hold_it_open(looked: bool, short: int) -> None:
    counter = IntervalCounter("s")
    records: list[CountRecord] = []
    for second in range(301):
        t = second - short * 1e-6
        at = NOON + timedelta(seconds=second, microseconds=-short)
        records += counter.add(t, at, 1) if looked else counter.advance(t, at)
    records = [record for record in records if record.start >= NOON]
    assert [(r.start - NOON).total_seconds() for r in records] == [60.0 * i for i in range(5 if short < 2 else 4)]
    assert {r.coverage for r in records} == ({1.0} if looked else {0.0})
