"""One series of people per room from all its sensors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analytics.domain.model import WatchKind
from analytics.domain.occupancy import OccupancyRules, SensorSeries, combine, room_occupancy

NAN = float("nan")


def floats(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)


def presence(name: str, kind: WatchKind, values: np.ndarray, coverage: np.ndarray | None = None) -> SensorSeries:
    cover = np.where(np.isnan(values), 0, 1).astype(np.float32) if coverage is None else coverage
    return SensorSeries(name, kind, cover, present=values)


def door(
    name: str, entered: np.ndarray, left: np.ndarray, coverage: np.ndarray | None = None, inward: int = 1
) -> SensorSeries:
    cover = np.ones_like(entered) if coverage is None else coverage
    return SensorSeries(name, WatchKind.DOOR, cover, entered=entered, left=left, inward=inward)


def same(found: np.ndarray, *values: float) -> None:
    np.testing.assert_array_equal(found, floats(*values))


def test_a_room_without_sensors_is_unknown_and_not_empty() -> None:
    room = room_occupancy([], 3)
    assert np.isnan(room.people).all()
    assert not room.coverage.any()
    assert not room.valid.any()


def test_disjoint_parts_add_up_and_a_part_that_is_missing_makes_the_minute_unknown() -> None:
    room = room_occupancy(
        [
            presence("a", WatchKind.PART, floats(1, 2, NAN, 0)),
            presence("b", WatchKind.PART, floats(3, 4, 5, 0), floats(1, 0.8, 1, 0.3)),
        ],
        4,
    )
    same(room.people, 4, 6, NAN, NAN)
    np.testing.assert_allclose(room.coverage, [1, 0.8, 0, 0], rtol=1e-6)


def test_two_sensors_of_the_whole_room_are_alternatives_and_do_not_add_up() -> None:
    room = room_occupancy(
        [presence("a", WatchKind.ROOM, floats(7, NAN, NAN)), presence("b", WatchKind.ROOM, floats(9, 9, NAN))], 3
    )
    same(room.people, 7, 9, NAN)


def test_a_door_integrates_in_minus_out_and_two_doors_share_the_room() -> None:
    zero = floats(0, 0, 0, 0, 0)
    room = room_occupancy(
        [door("in", floats(0, 3, 0, 0, 0), zero), door("out", floats(0, 0, 1, 2, 0), zero, inward=-1)],
        5,
        empty=np.array([True, False, False, False, True]),
    )
    same(room.people, 0, 3, 2, 0, 0)
    assert room.drift[0].rest == 0


def test_drift_is_spread_over_the_traffic_and_both_series_are_kept() -> None:
    entered = floats(0, 10, 0, 0, 0, 0)
    left = floats(0, 0, 0, 8, 0, 0)  # two went out unseen
    empty = np.array([True, False, False, False, False, True])
    room = room_occupancy([door("d", entered, left)], 6, empty=empty)
    same(room.raw, 0, 10, 10, 2, 2, 2)
    same(room.people, 0, 9, 9, 0, 0, 0)
    assert [(d.start, d.end, d.rest, d.traffic) for d in room.drift] == [(0, 5, 2, 18)]
    assert room.method == "occupancy-1"


def test_people_are_never_below_zero() -> None:
    room = room_occupancy([door("d", floats(0, 0, 0), floats(0, 5, 0))], 3, empty=np.array([True, False, False]))
    same(room.people, 0, 0, 0)
    same(room.raw, 0, -5, -5)


def test_a_long_quiet_with_nothing_booked_is_an_anchor_and_with_a_booking_is_not() -> None:
    entered, left = np.zeros(200, dtype=np.float32), np.zeros(200, dtype=np.float32)
    entered[10], left[40] = 20, 19  # one went out unseen, then two hours of quiet
    empty = np.arange(200) == 0
    rules = OccupancyRules(quiet_minutes=30)
    free = room_occupancy([door("d", entered, left)], 200, empty=empty, booked=np.zeros(200, dtype=bool), rules=rules)
    taken = room_occupancy([door("d", entered, left)], 200, empty=empty, booked=np.ones(200, dtype=bool), rules=rules)
    assert free.people[199] == 0
    assert taken.people[199] == 1


def test_a_quiet_room_with_people_in_it_is_not_taken_as_empty() -> None:
    entered = np.zeros(200, dtype=np.float32)
    entered[10] = 6  # they sit and work
    room = room_occupancy(
        [door("d", entered, np.zeros(200, dtype=np.float32))], 200, empty=np.arange(200) == 0,
        booked=np.zeros(200, dtype=bool),
    )  # fmt: skip
    assert room.people[199] == 6


def test_behind_a_long_hole_the_level_is_known_backwards_from_the_next_anchor() -> None:
    entered, left = np.zeros(60, dtype=np.float32), np.zeros(60, dtype=np.float32)
    entered[5], left[50] = 4, 9  # five came in during the hole
    coverage = np.ones(60, dtype=np.float32)
    coverage[20:30] = 0
    room = room_occupancy([door("d", entered, left, coverage)], 60, empty=np.isin(np.arange(60), (0, 59)))
    assert room.people[10] == 4
    assert np.isnan(room.people[20:30]).all()
    assert room.people[40] == 9
    assert room.people[59] == 0


def test_what_is_missing_in_a_short_hole_is_put_down_to_the_hole() -> None:
    entered, left = np.zeros(60, dtype=np.float32), np.zeros(60, dtype=np.float32)
    entered[18:20], left[50] = 10, 30  # ten more came in during one lost minute
    coverage = np.ones(60, dtype=np.float32)
    coverage[20] = 0
    room = room_occupancy([door("d", entered, left, coverage)], 60, empty=np.isin(np.arange(60), (0, 59)))
    assert np.isnan(room.people[20])
    assert room.people[21] >= 27  # 30 in truth, 20 uncorrected
    assert room.people[19] <= 22


def test_minutes_that_nobody_meant_to_measure_are_unknown_but_no_hole() -> None:
    entered, left = floats(0, 4, 0, 0, 0), floats(0, 0, 2, 0, 0)
    coverage = floats(1, 1, 1, 0, 0)
    night = np.array([False, False, False, True, True])
    room = room_occupancy([door("d", entered, left, coverage)], 5, empty=night | (np.arange(5) == 0), expected=~night)
    same(room.people, 0, 3, 0, NAN, NAN)
    assert room.drift[0].rest == 2


def test_presence_of_the_whole_room_anchors_the_door_that_bridges_its_gaps() -> None:
    seen = floats(5, NAN, NAN, NAN, 4)
    room = room_occupancy(
        [presence("c", WatchKind.ROOM, seen), door("d", floats(0, 2, 0, 0, 0), floats(0, 0, 0, 3, 0))], 5
    )
    same(room.people, 5, 7, 7, 4, 4)
    assert room.error[0] == 0


def test_combined_rooms_count_together() -> None:
    one = room_occupancy([presence("a", WatchKind.ROOM, floats(1, NAN))], 2)
    two = room_occupancy([presence("b", WatchKind.ROOM, floats(2, 3))], 2)
    same(combine([one, two]).people, 3, NAN)


def test_wrong_series_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="sensor x"):
        SensorSeries("x", WatchKind.DOOR, floats(1), entered=floats(1))
    with pytest.raises(ValueError, match="grid of 5"):
        room_occupancy([presence("y", WatchKind.ROOM, floats(1))], 5)
    with pytest.raises(ValueError, match="inward"):
        door("z", floats(1), floats(1), inward=0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 0.2))
def test_exact_counters_need_no_correction_and_faulty_ones_stay_within_their_bounds(seed: int, miss: float) -> None:
    rng = np.random.default_rng(seed)
    n = 600
    come = np.sort(rng.integers(10, 500, 40))
    go = np.minimum(come + rng.integers(1, 80, 40), n - 20)
    entered = np.bincount(come, minlength=n).astype(np.float32)
    left = np.bincount(go, minlength=n).astype(np.float32)
    empty = np.isin(np.arange(n), (0, n - 1))
    true = np.cumsum(entered - left)
    exact = room_occupancy([door("d", entered, left)], n, empty=empty)
    np.testing.assert_array_equal(exact.people, true)
    faulty = room_occupancy(
        [door("d", rng.binomial(entered.astype(int), 1 - miss).astype(np.float32), left)], n, empty=empty
    )
    assert (faulty.people >= 0).all()
    assert faulty.people[0] == faulty.people[-1] == 0


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.bool_, st.integers(1, 80)))
def test_a_minute_without_measurement_is_never_a_number(lost: np.ndarray) -> None:
    ones = np.ones(lost.size, dtype=np.float32)
    coverage = np.where(lost, 0, 1).astype(np.float32)
    for sensor in (presence("c", WatchKind.ROOM, ones, coverage), door("d", ones, 0 * ones, coverage)):
        room = room_occupancy([sensor], lost.size, empty=np.arange(lost.size) == 0)
        assert np.isnan(room.people[lost]).all()
        assert (room.coverage[lost] == 0).all()
