"""The product against a simulated campus whose truth is what people do: outcomes, attendance, drift."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from analytics.domain.matching import Outcome
from analytics.domain.model import WatchKind
from analytics.simulate import Campus, Report, judge, simulate_room
from analytics.simulate.people import Stays, hold
from analytics.simulate.store import populate
from analytics.store.base import Store

SMALL = Campus(rooms=30, weeks=8, seed=5)  # the full form: python -m tests.bench.matching --long


@pytest.fixture(scope="module")
def report() -> Report:
    return judge(SMALL)


def test_outcomes_are_right_where_coverage_suffices(report: Report) -> None:
    assert report.bookings > 2_000
    assert report.accuracy >= 0.97
    assert report.unknown < 0.06  # silence is no way to be right
    confusion = report.confusion
    for outcome in (Outcome.NO_SHOW, Outcome.EARLY_END, Outcome.LATE_START):
        judged = confusion[outcome, 1:].sum()
        assert confusion[outcome, outcome] / judged > 0.85, outcome.word


def test_attendance_is_within_one_person_or_five_per_cent_in_the_median(report: Report) -> None:
    people, share, within = report.attendance_error()
    assert people <= 1 or share <= 0.05
    assert within > 0.85


def test_corrected_door_counts_err_by_at_most_a_third_of_the_uncorrected(report: Report) -> None:
    uncorrected, nightly, corrected = report.drift()
    assert corrected <= uncorrected / 3
    assert corrected < nightly / 2


def test_the_same_seed_gives_the_same_campus_and_another_another() -> None:
    campus = Campus(rooms=2, weeks=2, seed=9)
    one, two = simulate_room(campus, 1), simulate_room(campus, 1)
    np.testing.assert_array_equal(one.present, two.present)
    for a, b in zip(one.sensors, two.sensors, strict=True):
        np.testing.assert_array_equal(a.slots, b.slots)
    other = simulate_room(replace(campus, seed=10), 1)
    assert one.present.shape == other.present.shape
    assert not np.array_equal(one.present, other.present)


def test_people_add_up() -> None:
    room = simulate_room(Campus(rooms=1, weeks=3, seed=2), 0)
    assert (room.present >= 0).all()
    assert room.present[-1] == 0
    stays = Stays(np.array([1.2, 5.0]), np.array([3.7, 9.9]))
    present, entered, left = stays.minutes(12)
    assert entered.sum() == left.sum() == 2
    assert present.tolist() == [0, 1, 1, 1, 0, 1, 1, 1, 1, 1, 0, 0]


def test_truth_comes_from_the_people() -> None:
    held = hold(np.random.default_rng(1), 60, 180, 0, 30, 0.9, 0, 300)
    visits = held.stays
    assert visits.leave.max() == held.last
    assert (visits.leave > visits.enter).all()
    assert 0 < held.attendance <= 30
    assert held.begin < held.finish


@pytest.mark.parametrize(("rooms", "weeks", "first"), [(0, 1, date(2026, 9, 7)), (1, 1, date(2026, 9, 8))])
def test_a_wrong_campus_is_refused(rooms: int, weeks: int, first: date) -> None:
    with pytest.raises(ValueError, match="campus"):
        Campus(rooms, weeks, first=first)


def test_everything_in_a_store_says_that_it_is_simulated(store: Store) -> None:
    campus = Campus(rooms=3, weeks=1, seed=3)
    populate(store, campus)
    org = "sim-campus"
    assert "Simulated" in store.organisation(org).name
    assert all("Simulated" in building.name for building in store.buildings(org))
    assert all(room.id.startswith("sim-") and "Simulated" in room.name for room in store.rooms(org))
    sensors = store.sensors(org)
    assert all(sensor.id.startswith("sim-") and "Simulated" in sensor.name for sensor in sensors)
    assert {watch.kind for sensor in sensors for watch in sensor.watches} <= set(WatchKind)
    assert all("Simulated" in b.title and b.booked_by is None for b in store.bookings(org, None, *_term(campus)))


def _term(campus: Campus):  # type: ignore[no-untyped-def]
    from analytics.domain.time import moment_of

    return moment_of(campus.grid.start), moment_of(campus.grid.end)
