"""Figures of rooms, planned and measured, as sums of numerators and denominators.

One minute of one room says whether it counts (measuring hours), whether it was measured, whether the room was in use
and booked, how many people and seats there were. Those facts add up over minutes, rooms and days without loss: a
percentage is taken last and never averaged. The words, formulas and sources are in docs/definitions.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from analytics.domain.matching import Flag, Matches, Outcome
from analytics.domain.plan import MatchRules, PlannedMinutes
from analytics.domain.time import BoolArray, FloatArray, LocalGrid, fill_runs, runs

DEFINITION = "figures-1"
"""Version of every definition below; stored with roll-ups and written into exports."""

Array = npt.NDArray[np.float64]
Sums = Mapping[str, Array]
"""Measure name to sums; all arrays of one mapping broadcast against each other."""

MINUTES = (
    "open_minutes",
    "measured_minutes",
    "in_use_minutes",
    "booked_minutes",
    "booked_measured_minutes",
    "booked_in_use_minutes",
    "unscheduled_minutes",
    "person_minutes",
    "seat_minutes_open",
    "seat_minutes",
    "seat_minutes_in_use",
    "seated_person_minutes",
    "seat_minutes_booked",
    "expected_minutes",
    "expected_person_minutes",
    "expected_seat_minutes",
)
"""Additive per minute of the measuring hours."""

OUTCOMES = tuple(f"bookings_{outcome.word}" for outcome in Outcome)
BOOKINGS = ("bookings", *OUTCOMES, "bookings_withdrawn", "release_minutes", "attendance", "attended_bookings")
"""Additive per booking, at the local hour in which it starts."""

MEASURES = MINUTES + BOOKINGS
HOURLY_MAXIMUM = "max_people"
"""Most people in a minute of the hour: a maximum, not a sum."""
QUARTER_PEOPLE, QUARTER_MEASURED = "quarter_person_minutes", "quarter_measured_minutes"
"""Additive per quarter of an hour, shape (..., 96): for peaks of several rooms at the same moment."""


def in_use(people: FloatArray, rules: MatchRules) -> BoolArray:
    """Minutes in which a room is in use, shape (n,).

    At least ``min_people`` for at least ``min_run`` minutes; pauses shorter than ``bridge`` are still use. An unknown
    minute ends no pause; whether it counts is a matter of coverage.
    """
    starts, ends = runs(people >= rules.min_people)
    long = ends - starts >= rules.min_run
    starts, ends = starts[long], ends[long]
    if starts.size > 1:
        apart = starts[1:] - ends[:-1] >= rules.bridge
        starts, ends = starts[np.append(True, apart)], ends[np.append(apart, True)]
    return fill_runs(people.size, starts, ends)


@dataclass(frozen=True)
class MinuteFacts:
    """What is true of one room, minute by minute; arrays of shape (n,).

    Attributes:
        open: counts for figures (measuring hours less closures).
        people: corrected count, NaN where unknown.
        used: in use, see ``in_use``.
        plan: booked minutes, minutes that belong to a booking, people expected.
        capacity: seats, NaN where unknown.
    """

    open: BoolArray
    people: FloatArray
    used: BoolArray
    plan: PlannedMinutes
    capacity: FloatArray


@dataclass(frozen=True)
class DayCells:
    """Sums of one room by local day and hour.

    Attributes:
        first_day: local day since 1970-01-01 of row 0.
        hours: measure to shape (days, 24).
        quarters: measure to shape (days, 96).
    """

    first_day: int
    hours: Mapping[str, Array]
    quarters: Mapping[str, Array]


def day_cells(
    facts: MinuteFacts, grid: LocalGrid, matches: Matches | None = None, withdrawn: Array | None = None
) -> DayCells:
    """Add a room's minutes and bookings up by local day and hour.

    An hour that summer time repeats holds both, one that it skips holds nothing.

    Args:
        withdrawn: start minutes of bookings that were cancelled or moved before they began.
    """
    if grid.length == 0:
        raise ValueError("a grid without minutes has no days")
    first, last = int(grid.day[0]), int(grid.day[-1])
    days = last - first + 1
    at = np.flatnonzero(facts.open)
    hours = {name: np.zeros((days, 24)) for name in (*MEASURES, HOURLY_MAXIMUM)}
    quarters = {name: np.zeros((days, 96)) for name in (QUARTER_PEOPLE, QUARTER_MEASURED)}
    if at.size:
        quarter = (grid.day[at].astype(np.int64) - first) * 96 + grid.minute[at] // 15
        cell, begins = _cells(quarter)
        columns = _minute_columns(facts, at)
        for name, column in columns.items():
            # float64 throughout: sums of float32 people would round at large buildings.
            sums = np.zeros(days * 96)
            np.add.at(sums, cell, np.add.reduceat(column, begins, dtype=np.float64))
            if name == "person_minutes":
                quarters[QUARTER_PEOPLE] = sums.reshape(days, 96)
            elif name == "measured_minutes":
                quarters[QUARTER_MEASURED] = sums.reshape(days, 96)
            hours[name] = sums.reshape(days, 24, 4).sum(axis=2)
        most = np.zeros(days * 96)
        np.maximum.at(most, cell, np.maximum.reduceat(np.nan_to_num(facts.people[at]), begins))
        hours[HOURLY_MAXIMUM] = most.reshape(days, 24, 4).max(axis=2)
    if matches is not None:
        _add_bookings(hours, matches, grid, first, days)
    if withdrawn is not None:
        np.add.at(hours["bookings_withdrawn"].ravel(), _start_cell(withdrawn, grid, first, days), 1)
    return DayCells(first, hours, quarters)


def _cells(key: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Keys of runs of equal keys and where each run begins; a key may come back (a repeated hour)."""
    begins = np.flatnonzero(np.diff(key, prepend=key[0] - 1))
    return key[begins], begins


def _minute_columns(facts: MinuteFacts, at: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.generic]]:
    people, seats, expected = facts.people[at], facts.capacity[at], facts.plan.expected[at]
    measured = ~np.isnan(people)
    used = facts.used[at] & measured
    booked = facts.plan.booked[at]
    seated = ~np.isnan(seats)
    seats = np.where(seated, seats, np.float32(0))
    known = booked & ~np.isnan(expected)
    # People in minutes that are not use (somebody passing) are nobody's use: utilisation stays frequency x fill.
    heads = np.where(used, people, np.float32(0))
    count = np.int32
    return {
        "open_minutes": np.ones(at.size, dtype=count),
        "measured_minutes": measured.astype(count),
        "in_use_minutes": used.astype(count),
        "booked_minutes": booked.astype(count),
        "booked_measured_minutes": (booked & measured).astype(count),
        "booked_in_use_minutes": (booked & used).astype(count),
        "unscheduled_minutes": (used & ~facts.plan.owned[at]).astype(count),
        "person_minutes": heads,
        "seat_minutes_open": seats,
        "seat_minutes": seats * measured,
        "seat_minutes_in_use": seats * used,
        "seated_person_minutes": heads * seated,
        "seat_minutes_booked": seats * booked,
        "expected_minutes": known.astype(count),
        "expected_person_minutes": np.where(known & seated, expected, np.float32(0)),
        "expected_seat_minutes": seats * known,
    }


def _start_cell(starts: npt.ArrayLike, grid: LocalGrid, first: int, days: int) -> npt.NDArray[np.int64]:
    """Cell of local day and hour of start minutes; those outside the grid are left out."""
    index = np.asarray(starts, dtype=np.int64) - grid.start
    index = index[(index >= 0) & (index < grid.length)]
    cell: npt.NDArray[np.int64] = (grid.day[index].astype(np.int64) - first) * 24 + grid.hour[index]
    return cell


def _add_bookings(hours: dict[str, Array], matches: Matches, grid: LocalGrid, first: int, days: int) -> None:
    inside = (matches.plan.start >= grid.start) & (matches.plan.start < grid.end)
    # A booking without length takes no time of anybody: it is listed, not counted.
    inside &= (matches.flags & int(Flag.NO_LENGTH)) == 0
    chosen = np.flatnonzero(inside)
    cell = _start_cell(matches.plan.start[chosen], grid, first, days)
    np.add.at(hours["bookings"].ravel(), cell, 1)
    for outcome in Outcome:
        of = matches.outcome[chosen] == outcome
        np.add.at(hours[f"bookings_{outcome.word}"].ravel(), cell[of], 1)
    # What a cluster gives back or holds is counted once, with its first booking.
    _, lead = np.unique(matches.cluster[chosen], return_index=True)
    release = matches.release[chosen][lead]
    np.add.at(hours["release_minutes"].ravel(), cell[lead], np.nan_to_num(release))
    attendance = matches.attendance[chosen][lead]
    known = ~np.isnan(attendance)
    np.add.at(hours["attendance"].ravel(), cell[lead][known], attendance[known])
    np.add.at(hours["attended_bookings"].ravel(), cell[lead][known], 1)


def _ratio(numerator: Array, denominator: Array) -> Array:
    """NaN where the denominator is 0: no data is not 0 %."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    result: Array = np.divide(
        numerator, denominator, out=np.full(numerator.shape, np.nan), where=np.asarray(denominator) > 0
    )
    return result


FIGURES: Mapping[str, tuple[str, str]] = {
    # figure: (unit, formula)
    "coverage": ("ratio", "measured_minutes / open_minutes"),
    "frequency": ("ratio", "in_use_minutes / measured_minutes"),
    "fill": ("ratio", "seated_person_minutes / seat_minutes_in_use"),
    "utilisation": ("ratio", "seated_person_minutes / seat_minutes"),
    "seat_frequency": ("ratio", "seat_minutes_in_use / seat_minutes"),
    "planned_frequency": ("ratio", "booked_minutes / open_minutes"),
    "planned_frequency_measured": ("ratio", "booked_measured_minutes / measured_minutes"),
    "planned_fill": ("ratio", "expected_person_minutes / expected_seat_minutes"),
    "planned_utilisation": ("ratio", "seat_minutes_booked / seat_minutes_open x planned_fill"),
    "expected_known": ("ratio", "expected_minutes / booked_minutes"),
    "unused_booked": ("ratio", "1 - booked_in_use_minutes / booked_measured_minutes"),
    "unscheduled": ("ratio", "unscheduled_minutes / in_use_minutes"),
    "people_in_use": ("people", "person_minutes / in_use_minutes"),
    "no_show_rate": ("ratio", "bookings_no_show / (bookings - bookings_unknown)"),
    "unknown_rate": ("ratio", "bookings_unknown / bookings"),
    "mean_attendance": ("people", "attendance / attended_bookings"),
    "open_hours": ("hours", "open_minutes / 60"),
    "measured_hours": ("hours", "measured_minutes / 60"),
    "booked_hours": ("hours", "booked_minutes / 60"),
    "in_use_hours": ("hours", "in_use_minutes / 60"),
    "hours_lost": ("hours", "(booked_measured_minutes - booked_in_use_minutes) / 60"),
    "unscheduled_hours": ("hours", "unscheduled_minutes / 60"),
    "release_hours": ("hours", "release_minutes / 60"),
    "person_hours": ("hours", "person_minutes / 60"),
}


def figures(sums: Sums) -> dict[str, Array]:
    """Every figure of ``FIGURES`` from sums of ``MEASURES``, elementwise; NaN is unknown.

    Values above 1 are kept: a room can be over capacity. Hours measured are those of the measured part: compare them
    with ``coverage`` at hand. Where nothing at all was measured they are unknown, not 0.
    """
    s = {name: np.asarray(value, dtype=np.float64) for name, value in sums.items()}
    planned_fill = _ratio(s["expected_person_minutes"], s["expected_seat_minutes"])
    unmeasured = np.where(s["measured_minutes"] > 0, 0.0, np.nan)
    unmeasured_booked = np.where((s["booked_measured_minutes"] > 0) | (s["booked_minutes"] == 0), 0.0, np.nan)
    judged = s["bookings"] - s["bookings_unknown"]
    return {
        "coverage": _ratio(s["measured_minutes"], s["open_minutes"]),
        "frequency": _ratio(s["in_use_minutes"], s["measured_minutes"]),
        "fill": _ratio(s["seated_person_minutes"], s["seat_minutes_in_use"]),
        "utilisation": _ratio(s["seated_person_minutes"], s["seat_minutes"]),
        "seat_frequency": _ratio(s["seat_minutes_in_use"], s["seat_minutes"]),
        "planned_frequency": _ratio(s["booked_minutes"], s["open_minutes"]),
        "planned_frequency_measured": _ratio(s["booked_measured_minutes"], s["measured_minutes"]),
        "planned_fill": planned_fill,
        "planned_utilisation": _ratio(s["seat_minutes_booked"], s["seat_minutes_open"])
        * np.where(s["booked_minutes"] > 0, planned_fill, 0.0),
        "expected_known": _ratio(s["expected_minutes"], s["booked_minutes"]),
        "unused_booked": 1 - _ratio(s["booked_in_use_minutes"], s["booked_measured_minutes"]),
        "unscheduled": _ratio(s["unscheduled_minutes"], s["in_use_minutes"]),
        "people_in_use": _ratio(s["person_minutes"], s["in_use_minutes"]),
        "no_show_rate": _ratio(s["bookings_no_show"], judged),
        "unknown_rate": _ratio(s["bookings_unknown"], s["bookings"]),
        "mean_attendance": _ratio(s["attendance"], s["attended_bookings"]),
        "open_hours": s["open_minutes"] / 60,
        "measured_hours": s["measured_minutes"] / 60,
        "booked_hours": s["booked_minutes"] / 60,
        "in_use_hours": s["in_use_minutes"] / 60 + unmeasured,
        "hours_lost": (s["booked_measured_minutes"] - s["booked_in_use_minutes"]) / 60 + unmeasured_booked,
        "unscheduled_hours": s["unscheduled_minutes"] / 60 + unmeasured,
        "release_hours": s["release_minutes"] / 60 + np.where((judged > 0) | (s["bookings"] == 0), 0.0, np.nan),
        "person_hours": s["person_minutes"] / 60 + unmeasured,
    }


@dataclass(frozen=True)
class Peaks:
    """People at the same moment over a group of rooms; NaN where too little was measured.

    Attributes:
        p95: 95th percentile of the 15-minute means during measuring hours.
        highest: largest 15-minute mean, and ``day`` and ``quarter`` of it (local; -1 for none).
        moments: share of the moments at which enough rooms were measured.
    """

    p95: float
    highest: float
    day: int
    quarter: int
    moments: float


def peaks(people: Array, measured: Array, first_day: int = 0, *, min_rooms: float = 0.6) -> Peaks:
    """Peaks of simultaneous sums: adding up each room's own peak would claim people who were never there together.

    Args:
        people, measured: person-minutes and measured minutes by quarter, shape (rooms, days, 96).
        first_day: local day of the first column, for ``day``.
        min_rooms: a moment counts when at least this share of the rooms that are ever measured was.
    """
    seen = np.nan_to_num(measured) > 0
    mean = np.divide(np.nan_to_num(people), measured, out=np.zeros(seen.shape), where=seen)
    rooms = int(seen.any(axis=(1, 2)).sum())
    count = seen.sum(axis=0)
    usable = (count >= max(1.0, min_rooms * rooms)) & (rooms > 0)
    if not usable.any():
        return Peaks(np.nan, np.nan, -1, -1, 0.0)
    total = mean.sum(axis=0)
    best = int(np.where(usable, total, -1).argmax())
    return Peaks(
        float(np.quantile(total[usable], 0.95)),
        float(total.ravel()[best]),
        first_day + best // 96,
        best % 96,
        float(usable.sum() / max(int((count > 0).sum()), 1)),
    )
