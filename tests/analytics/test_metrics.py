"""Figures: the published golden table, identities that hold for any data, and what counts where."""

from __future__ import annotations

from datetime import date
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analytics.domain.matching import Matches, match_room
from analytics.domain.metrics import (
    FIGURES,
    MEASURES,
    MINUTES,
    DayCells,
    MinuteFacts,
    day_cells,
    figures,
    in_use,
    needed_measures,
    peaks,
)
from analytics.domain.plan import MatchRules, Plan, planned_minutes
from analytics.domain.time import Calendar, LocalGrid, day_bounds, day_number, local_grid

AMSTERDAM = ZoneInfo("Europe/Amsterdam")
RULES = MatchRules()

# Worked table of a utilisation survey (stellae.com glossary): rooms, in use, seats used, seats, and the printed
# frequency, occupancy and utilisation in per cent. One survey moment; every room counts with the mean capacity.
GOLDEN = [
    ("A", 16, 7, 134, 400, 43.8, 76.6, 33.5),
    ("B", 18, 9, 110, 468, 50.0, 47.0, 23.5),
    ("C", 27, 10, 106, 648, 37.0, 44.2, 16.4),
    ("E", 36, 15, 180, 755, 41.7, 57.2, 23.8),
    ("F", 15, 7, 77, 540, 46.7, 30.6, 14.3),
    ("G", 18, 7, 130, 563, 38.9, 59.4, 23.1),
    ("H", 18, 6, 90, 580, 33.3, 46.6, 15.5),
    ("total", 166, 70, 915, 4368, 42.2, 49.7, 20.9),  # printed 21.0: 915 / 4368 is 20.95
]


def survey(rooms: int, used: int, people: float, seats: float) -> dict[str, float]:
    """One minute of a survey as sums: the rooms in use hold the mean capacity each."""
    sums = dict.fromkeys(MEASURES, 0.0)
    sums |= {
        "open_minutes": rooms, "measured_minutes": rooms, "in_use_minutes": used, "seat_minutes": seats,
        "seat_minutes_in_use": used * seats / rooms, "seated_person_minutes": people, "person_minutes": people,
    }  # fmt: skip
    return sums


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: row[0])
def test_golden_table_of_published_utilisation_figures(
    row: tuple[str, int, int, float, float, float, float, float],
) -> None:
    _, rooms, used, people, seats, frequency, fill, utilisation = row
    found = figures(survey(rooms, used, people, seats))
    assert 100 * found["frequency"] == pytest.approx(frequency, abs=0.051)
    assert 100 * found["fill"] == pytest.approx(fill, abs=0.051)
    assert 100 * found["utilisation"] == pytest.approx(utilisation, abs=0.051)
    assert found["utilisation"] == pytest.approx(found["seat_frequency"] * found["fill"])


def test_row_d_of_the_golden_table_is_a_misprint() -> None:
    assert float(figures(survey(18, 9, 88, 414))["frequency"]) == 0.5  # printed 50.5 %


def facts_of(
    grid: LocalGrid, people: np.ndarray, plan: Plan, capacity: float, calendar: Calendar | None = None
) -> tuple[MinuteFacts, Matches]:
    matches = match_room(people, grid.start, plan, RULES)
    minutes = planned_minutes(matches.clusters, matches.own_begin, matches.own_end, grid.start, grid.length)
    facts = MinuteFacts(
        (calendar or Calendar(AMSTERDAM)).open(grid), people, in_use(people, RULES), minutes,
        np.full(grid.length, capacity, dtype=np.float32),
    )  # fmt: skip
    return facts, matches


def random_room(seed: int, first: date, days: int) -> tuple[LocalGrid, MinuteFacts, Matches]:
    rng = np.random.default_rng(seed)
    start, end = day_bounds(first, AMSTERDAM)
    _, end = day_bounds(first, AMSTERDAM, date.fromordinal(first.toordinal() + days - 1))
    grid = local_grid(AMSTERDAM, start, end - start)
    people = np.repeat(rng.integers(0, 30, grid.length // 10 + 1) * rng.integers(0, 2, grid.length // 10 + 1), 10)
    people = people[: grid.length].astype(np.float32)
    people[rng.random(grid.length) < rng.uniform(0, 0.6)] = np.nan
    rows = [
        (grid.start + at, grid.start + at + int(rng.integers(0, 200)))
        for at in rng.integers(0, grid.length, 9).tolist()
    ]
    expected = [None if rng.random() < 0.3 else float(rng.integers(1, 40)) for _ in rows]
    capacity = float(rng.integers(1, 60)) if rng.random() < 0.8 else float("nan")
    return grid, *facts_of(grid, people, Plan.of(rows, expected=expected, capacity=capacity), capacity)


def total(*cells: DayCells) -> dict[str, float]:
    return {name: float(sum(c.hours[name].sum() for c in cells)) for name in MEASURES}


DAYS = st.sampled_from([date(2026, 3, 27), date(2026, 10, 23), date(2028, 2, 28), date(2026, 12, 30), date(2026, 6, 1)])


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3), DAYS)
def test_utilisation_is_capacity_weighted_frequency_times_fill(seeds: list[int], first: date) -> None:
    rooms = [random_room(seed, first, 4) for seed in seeds]
    sums = total(*(day_cells(facts, grid, matches) for grid, facts, matches in rooms))
    found = figures(sums)
    if np.isnan(found["fill"]):
        assert not found["utilisation"] > 0
    else:
        assert found["utilisation"] == pytest.approx(found["seat_frequency"] * found["fill"])
        if len(rooms) == 1:
            assert found["seat_frequency"] == pytest.approx(found["frequency"])


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), DAYS, st.integers(1, 3))
def test_sums_add_up_over_time(seed: int, first: date, cut: int) -> None:
    grid, facts, matches = random_room(seed, first, 4)
    whole = day_cells(facts, grid, matches)
    at, _ = day_bounds(date.fromordinal(first.toordinal() + cut), AMSTERDAM)
    at -= grid.start

    def piece(low: int, high: int) -> DayCells:
        part = MinuteFacts(
            facts.open[low:high], facts.people[low:high], facts.used[low:high],
            type(facts.plan)(facts.plan.booked[low:high], facts.plan.owned[low:high], facts.plan.expected[low:high]),
            facts.capacity[low:high],
        )  # fmt: skip
        return day_cells(part, local_grid(AMSTERDAM, grid.start + low, high - low), matches)

    left, right = piece(0, at), piece(at, grid.length)
    for name in MINUTES:
        np.testing.assert_array_equal(whole.hours[name], np.concatenate([left.hours[name], right.hours[name]]))
    assert total(whole)["bookings"] == total(left, right)["bookings"]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), DAYS)
def test_hours_hold_what_the_minutes_say(seed: int, first: date) -> None:
    grid, facts, matches = random_room(seed, first, 2)
    cells = day_cells(facts, grid, matches)
    measured = facts.open & ~np.isnan(facts.people)
    assert cells.hours["open_minutes"].sum() == facts.open.sum()
    for day in range(2):
        for hour in (7, 12, 21, 22):
            here = (grid.day == cells.first_day + day) & (grid.hour == hour)
            assert cells.hours["measured_minutes"][day, hour] == (measured & here).sum()
            used = measured & here & facts.used
            assert cells.hours["person_minutes"][day, hour] == pytest.approx(facts.people[used].sum())
    sums = total(cells)
    assert sums["booked_in_use_minutes"] <= sums["booked_measured_minutes"] <= sums["booked_minutes"]
    assert sums["in_use_minutes"] <= sums["measured_minutes"] <= sums["open_minutes"]
    assert (
        sum(sums[name] for name in MEASURES if name.startswith("bookings_") and name != "bookings_withdrawn")
        == sums["bookings"]
    )
    assert cells.quarters["quarter_person_minutes"].sum() == pytest.approx(sums["person_minutes"])


@pytest.mark.parametrize(
    ("day", "minutes"),
    [(date(2026, 3, 29), 23 * 60), (date(2026, 10, 25), 25 * 60), (date(2028, 2, 29), 24 * 60)],
    ids=["summer time begins", "summer time ends", "leap day"],
)
def test_every_minute_of_odd_days_counts_once(day: date, minutes: int) -> None:
    start, end = day_bounds(day, AMSTERDAM)
    grid = local_grid(AMSTERDAM, start, end - start)
    always = Calendar(AMSTERDAM, (((0, 1440),),) * 7)
    people = np.full(grid.length, 4, dtype=np.float32)
    facts, matches = facts_of(grid, people, Plan.of([(start, end)]), 8, always)
    cells = day_cells(facts, grid, matches)
    assert cells.hours["open_minutes"].sum() == minutes
    assert cells.hours["person_minutes"].sum() == 4 * minutes
    assert cells.hours["open_minutes"][0, 2] == minutes - 23 * 60
    found = figures({name: values.sum() for name, values in cells.hours.items()})
    assert (found["frequency"], found["fill"], found["planned_frequency"]) == (1, 0.5, 1)


def test_unknown_is_never_zero() -> None:
    found = figures(
        dict.fromkeys(MEASURES, 0.0)
        | {"open_minutes": 60.0, "booked_minutes": 60.0, "bookings": 1.0, "bookings_unknown": 1.0}
    )
    assert found["coverage"] == 0
    for name in (
        "frequency",
        "fill",
        "utilisation",
        "in_use_hours",
        "hours_lost",
        "release_hours",
        "no_show_rate",
        "person_hours",
    ):
        assert np.isnan(found[name]), name


def test_more_people_than_seats_is_shown_as_such() -> None:
    assert figures(survey(1, 1, 30, 20))["fill"] == 1.5


def test_an_unknown_booking_leaves_numerator_and_denominator() -> None:
    sums = dict.fromkeys(MEASURES, 0.0) | {"bookings": 10.0, "bookings_unknown": 5.0, "bookings_no_show": 1.0}
    assert figures(sums)["no_show_rate"] == pytest.approx(0.2)
    assert figures(sums)["unknown_rate"] == 0.5


def test_every_figure_is_computed_from_the_measures_that_it_names() -> None:
    for name in FIGURES:
        sums = {measure: np.array(60.0) for measure in needed_measures([name])}
        assert name in figures(sums, [name])
    with pytest.raises(KeyError):
        needed_measures(["occupation"])


@pytest.mark.parametrize(
    ("people", "minutes"),
    [
        ([1, 1, 0, 0, 0], 0),  # somebody passes
        ([1, 1, 1, 0, 0], 3),
        ([1] * 3 + [0] * 14 + [1] * 3, 20),  # a break is bridged
        ([1] * 3 + [0] * 15 + [1] * 3, 6),  # a gap is not
        ([1] * 3 + [float("nan")] * 4 + [1] * 3, 10),
        ([1, 1, 1] + [0] * 5 + [1], 3),
    ],
)
def test_in_use(people: list[float], minutes: int) -> None:
    assert in_use(np.array(people, dtype=np.float32), RULES).sum() == minutes


def test_the_peak_of_a_building_is_of_one_moment_and_not_a_sum_of_peaks() -> None:
    people = np.zeros((2, 1, 96))
    people[0, 0, 40], people[1, 0, 60] = 15 * 100, 15 * 80
    measured = np.full((2, 1, 96), 15.0)
    found = peaks(people, measured, day_number(date(2026, 3, 2)))
    assert (found.highest, found.quarter, found.day) == (100, 40, day_number(date(2026, 3, 2)))
    measured[1, 0, 40] = 0  # one of two rooms unknown at that moment
    assert peaks(people, measured).highest == 80
    nothing = peaks(people, np.zeros((2, 1, 96)))
    assert np.isnan(nothing.p95)
    assert nothing.moments == 0


def test_unscheduled_use_spares_the_margins_of_a_booking() -> None:
    start, end = day_bounds(date(2026, 3, 2), AMSTERDAM)
    grid = local_grid(AMSTERDAM, start, end - start)
    people = np.zeros(grid.length, dtype=np.float32)
    people[590:725] = 10  # ten before to five after
    people[800:860] = 2  # nobody booked this
    facts, matches = facts_of(grid, people, Plan.of([(start + 600, start + 720)]), 20)
    sums = total(day_cells(facts, grid, matches))
    assert sums["unscheduled_minutes"] == 60
    assert sums["booked_in_use_minutes"] == 120
