"""Slots to minutes, and recurring bookings."""

from __future__ import annotations

import numpy as np
import pytest

from analytics.domain.matching import Outcome
from analytics.domain.model import HEALTH_BITS, NOT_OBSERVED, SLOT_DTYPE, SlotArray, WatchKind
from analytics.domain.recurring import SeriesRules, Verdict, summarise
from analytics.domain.series import per_minute

NAN = float("nan")


def slot(start: int, seconds: int = 60, present: int = 3, entered: int = 0, left: int = 0, coverage: int = 10_000,
         health: str = "ok") -> tuple[int, ...]:  # fmt: skip
    return (start, seconds, present, present, entered, left, coverage, HEALTH_BITS[health])


def slots(*rows: tuple[int, ...]) -> SlotArray:
    return np.array(list(rows), dtype=SLOT_DTYPE)


def test_missing_minutes_are_nan_and_never_zero() -> None:
    found = per_minute(slots(slot(600, entered=2, left=1), slot(720, present=NOT_OBSERVED), slot(6000)), 9, 5)
    np.testing.assert_array_equal(found.present, [NAN, 3, NAN, NAN, NAN])
    assert found.coverage.tolist() == [0, 1, 0, 1, 0]
    assert (found.entered[1], found.left[1]) == (2, 1)


@pytest.mark.parametrize("fault", ["blocked", "moved", "no_signal"])
def test_a_blind_sensor_says_nothing(fault: str) -> None:
    found = per_minute(slots(slot(0, health=fault)), 0, 1)
    assert np.isnan(found.present[0])
    assert found.coverage[0] == 0


def test_slots_of_other_lengths() -> None:
    long = per_minute(slots(slot(0, 300, present=4, entered=6)), 0, 6)
    np.testing.assert_array_equal(long.present, [4, 4, 4, 4, 4, NAN])
    assert long.entered.sum() == 6
    short = per_minute(slots(*(slot(10 * i, 10, present=i % 2 * 4, left=1) for i in range(6))), 0, 1)
    assert short.present[0] == 2
    assert short.left[0] == 6
    assert short.coverage[0] == 1
    half = per_minute(slots(slot(0, 30)), 0, 1)
    assert half.coverage[0] == 0.5


def test_a_door_seen_from_the_other_side() -> None:
    series = per_minute(slots(slot(0)), 0, 1).watching("s", WatchKind.DOOR, reversed_door=True)
    assert series.inward == -1


def held(*people: float, seats: float = 100) -> Verdict:
    n = len(people)
    found = summarise(
        ["k"] * n, np.full(n, Outcome.HELD, dtype=np.int8), np.array(people, dtype=np.float32),
        np.full(n, seats, dtype=np.float32),
    )  # fmt: skip
    return found["k"].verdict


def test_verdicts() -> None:
    assert held(20, 25, 30) is Verdict.UNDER_USED
    assert held(70, 80, 90) is Verdict.FITS
    assert held(105, 110, 120) is Verdict.OVER_FULL
    assert held(20, 25) is Verdict.UNKNOWN  # twice is no structure
    assert held(20, 25, 30, seats=NAN) is Verdict.UNKNOWN


def test_the_smallest_room_class_that_fits_with_headroom() -> None:
    outcome = np.array([Outcome.HELD] * 10 + [Outcome.NO_SHOW, Outcome.UNKNOWN], dtype=np.int8)
    people = np.array([27] * 10 + [0, NAN], dtype=np.float32)
    found = summarise(["k"] * 12, outcome, people, np.full(12, 60, dtype=np.float32))["k"]
    assert (found.bookings, found.judged, found.held, found.no_shows) == (12, 11, 10, 1)
    assert (found.p90, found.seats_needed, found.class_needed) == (27, 30, 30)
    larger = summarise(["k"] * 12, outcome, people, np.full(12, 60, dtype=np.float32), SeriesRules(headroom=0.2))["k"]
    assert (larger.seats_needed, larger.class_needed) == (33, 60)


def test_a_series_that_never_takes_place() -> None:
    found = summarise(
        ["k"] * 3, np.full(3, Outcome.NO_SHOW, dtype=np.int8), np.zeros(3, dtype=np.float32),
        np.full(3, 30, dtype=np.float32),
    )["k"]  # fmt: skip
    assert found.verdict is Verdict.NEVER_HELD
    assert found.class_needed == -1
