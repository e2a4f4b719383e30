"""Truth tables and properties of the figures that the benchmark reports."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from counter.bench.measures import (
    UNKNOWN,
    Event,
    Matches,
    Presence,
    Sums,
    durations,
    interval_events,
    interval_presence,
    match_events,
    presence,
    sums,
    total_error,
)
from counter.types import Direction

IN, OUT = Direction.ENTERED, Direction.LEFT


def event(t: float, direction: Direction = IN, line: str = "door") -> Event:
    return Event(line, direction, t)


@pytest.mark.parametrize(
    ("counted", "true", "expected"),
    [
        ([], [], (0, 0, 0)),
        ([event(1.0)], [event(2.0)], (1, 0, 0)),  # one second is near enough
        ([event(1.0)], [event(2.01)], (0, 1, 1)),
        ([event(1.0, OUT)], [event(1.0, IN)], (0, 1, 1)),  # the other way
        ([event(1.0, line="window")], [event(1.0)], (0, 1, 1)),  # another line
        ([event(1.0), event(1.1)], [event(1.0)], (1, 1, 0)),  # counted twice
        ([event(1.0)], [event(0.5), event(1.5)], (1, 0, 1)),  # two at once, one seen
        ([event(0.9), event(1.8)], [event(0.0), event(0.9)], (2, 0, 0)),  # greedy by nearness would lose one
    ],
)
def test_events_pair_once_within_a_second(
    counted: list[Event], true: list[Event], expected: tuple[int, int, int]
) -> None:
    found = match_events(counted, true)
    assert (found.hits, found.invented, found.missed) == expected


times_of = st.lists(st.floats(0, 20, allow_nan=False).map(lambda t: round(t, 2)), max_size=7)


@given(times_of, times_of)
def test_the_pairing_is_the_best_there_is(ours: list[float], theirs: list[float]) -> None:
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

    near = np.abs(np.subtract.outer(ours, theirs)) <= 1.0 + 1e-9
    best = int(near[linear_sum_assignment(near, maximize=True)].sum()) if near.size else 0
    assert match_events([event(t) for t in ours], [event(t) for t in theirs]).hits == best


@given(times_of, times_of)
def test_hits_invented_and_missed_add_up(ours: list[float], theirs: list[float]) -> None:
    found = match_events([event(t) for t in ours], [event(t) for t in theirs])
    assert found.hits + found.invented == len(ours)
    assert found.hits + found.missed == len(theirs)
    mirrored = match_events([event(t) for t in theirs], [event(t) for t in ours])
    assert mirrored == Matches(found.hits, found.missed, found.invented)


def test_presence_weighs_frames_by_their_time() -> None:
    times = np.array([0.0, 1.0, 4.0])
    got = presence(times, np.array([1, 0, 3]), np.array([1, 1, 1]))
    # Frames stand for 1, 3 and (the median) 2 seconds.
    assert durations(times).tolist() == [1.0, 3.0, 2.0]
    assert (got.seconds, got.exact, got.within_one) == (6.0, 1.0, 4.0)
    assert got.error == Sums(6.0, 6.0, 3.0 + 2 * 2.0, -3.0 + 2 * 2.0)


def test_what_nobody_knows_is_not_compared() -> None:
    times = np.arange(4.0)
    got = presence(times, np.array([9, 1, 1, 9]), np.array([UNKNOWN, 1, 0, UNKNOWN]))
    assert (got.seconds, got.exact) == (2.0, 1.0)
    assert presence(times, np.zeros(4, np.int64), np.full(4, UNKNOWN)).seconds == 0


def test_an_interval_reports_its_median() -> None:
    times = np.arange(12) / 4  # 4 frames a second, intervals of 1 s
    counted = np.array([2, 2, 2, 9, 1, 1, 0, 0, 3, 3, 3, 3])
    true = np.array([2, 2, 2, 2, 0, 0, 0, 0, 2, 2, 2, 2])
    # Medians 2, 0.5 (rounded up) and 3 against 2, 0 and 2.
    assert interval_presence(times, counted, true, 1.0) == Sums(3.0, 4.0, 2.0, 2.0)


def test_crossings_are_compared_per_interval_line_and_direction() -> None:
    counted = [event(0.5), event(1.5), event(1.6), event(9.0, OUT)]
    true = [event(0.5), event(0.6), event(1.5)]
    # Entered: 1, 2, 0... against 2, 1, 0...; left: one too many. Ten intervals each.
    assert interval_events(counted, true, 10.0, 1.0) == Sums(20.0, 3.0, 3.0, 1.0)
    assert total_error(counted, {("door", IN): 3}) == Sums(2.0, 3.0, 1.0, 1.0)


def test_percentages_come_from_sums_and_never_from_averages() -> None:
    small, large = sums([2], [1]), sums([90], [100])
    assert small.wape == 1.0
    assert large.wape == 0.1
    assert (small + large).wape == pytest.approx(11 / 101)
    assert (small + large).bias == pytest.approx(-9 / 101)
    assert (small + large).mae == 5.5
    assert Sums().mae is None
    assert Sums().wape is None
    assert (Presence(1, 1, 1, small) + Presence(1, 0, 1, large)).exact == 1


counts = st.lists(st.integers(0, 30), min_size=1, max_size=40)


@given(counts, st.floats(0.05, 5))
def test_a_perfect_count_has_no_error(people: list[int], step: float) -> None:
    values, times = np.array(people), np.arange(len(people)) * step
    got = presence(times, values, values)
    assert got.exact == pytest.approx(got.seconds)
    assert got.within_one == pytest.approx(got.seconds)
    assert interval_presence(times, values, values, 1.0).absolute == 0


@given(counts, st.integers(-1, 1))
def test_being_one_off_is_within_one(people: list[int], off: int) -> None:
    values, times = np.array(people), np.arange(len(people)) * 0.1
    got = presence(times, values + off, values)
    assert got.within_one == pytest.approx(got.seconds)
    assert got.error.signed == pytest.approx(off * got.seconds)
