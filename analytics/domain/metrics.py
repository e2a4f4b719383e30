"""Figures of rooms, planned and measured, as sums of numerators and denominators.

One minute of one room says whether it counts (measuring hours), whether it was measured, whether the room was in use
and booked, how many people and seats there were. Those facts add up over minutes, rooms and days without loss: a
percentage is taken last and never averaged. The words, formulas and sources are in docs/definitions.md.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

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
    facts: MinuteFacts,
    grid: LocalGrid,
    matches: Matches | None = None,
    withdrawn: npt.NDArray[np.int64] | None = None,
    counted: BoolArray | None = None,
) -> DayCells:
    """Add a room's minutes and bookings up by local day and hour.

    An hour that summer time repeats holds both, one that it skips holds nothing.

    Args:
        withdrawn: start minutes of bookings that were cancelled or moved before they began.
        counted: which bookings of ``matches`` are this room's own, shape (bookings,); None: all. A booking of a
            combined room takes its parts' time, but is counted once, in the combined room.
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
        _add_bookings(hours, matches, counted, grid, first, days)
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


def _add_bookings(
    hours: dict[str, Array], matches: Matches, counted: BoolArray | None, grid: LocalGrid, first: int, days: int
) -> None:
    inside = (matches.plan.start >= grid.start) & (matches.plan.start < grid.end)
    # A booking without length takes no time of anybody: it is listed, not counted.
    inside &= (matches.flags & int(Flag.NO_LENGTH)) == 0
    if counted is not None:
        inside &= counted
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


def _planned_fill(s: Sums) -> Array:
    return _ratio(s["expected_person_minutes"], s["expected_seat_minutes"])


def _planned_utilisation(s: Sums) -> Array:
    share = _ratio(s["seat_minutes_booked"], s["seat_minutes_open"])
    return share * np.where(s["booked_minutes"] > 0, _planned_fill(s), 0.0)


def _judged(s: Sums) -> Array:
    return s["bookings"] - s["bookings_unknown"]


def _unknown_unless(known: npt.NDArray[np.bool_], value: Array) -> Array:
    return np.where(known, value, np.nan)


def _booked_known(s: Sums) -> npt.NDArray[np.bool_]:
    known: npt.NDArray[np.bool_] = (s["booked_measured_minutes"] > 0) | (s["booked_minutes"] == 0)
    return known


@dataclass(frozen=True)
class Figure:
    """One figure: its unit, its formula for people, the measures it needs, and how to compute it."""

    unit: str
    formula: str
    compute: Callable[[Sums], Array] = field(repr=False)
    more: tuple[str, ...] = ()

    @property
    def needs(self) -> tuple[str, ...]:
        """Measures that the formula names, and those that decide whether it is known."""
        return tuple(name for name in MEASURES if name in (*re.findall(r"[a-z_]+", self.formula), *self.more))


def _share(above: str, below: str) -> Figure:
    return Figure("ratio", f"{above} / {below}", lambda s: _ratio(s[above], s[below]))


def _hours(minutes: str, *, measured: bool = False) -> Figure:
    if not measured:
        return Figure("hours", f"{minutes} / 60", lambda s: s[minutes] / 60)
    return Figure(
        "hours",
        f"{minutes} / 60",
        lambda s: _unknown_unless(s["measured_minutes"] > 0, s[minutes] / 60),
        ("measured_minutes",),
    )


FIGURES: Mapping[str, Figure] = {
    "coverage": _share("measured_minutes", "open_minutes"),
    "frequency": _share("in_use_minutes", "measured_minutes"),
    "fill": _share("seated_person_minutes", "seat_minutes_in_use"),
    "utilisation": _share("seated_person_minutes", "seat_minutes"),
    "seat_frequency": _share("seat_minutes_in_use", "seat_minutes"),
    "planned_frequency": _share("booked_minutes", "open_minutes"),
    "planned_frequency_measured": _share("booked_measured_minutes", "measured_minutes"),
    "planned_fill": Figure("ratio", "expected_person_minutes / expected_seat_minutes", _planned_fill),
    "planned_utilisation": Figure(
        "ratio",
        "(seat_minutes_booked / seat_minutes_open) x (expected_person_minutes / expected_seat_minutes)",
        _planned_utilisation,
        ("booked_minutes",),
    ),
    "expected_known": _share("expected_minutes", "booked_minutes"),
    "unused_booked": Figure(
        "ratio",
        "1 - booked_in_use_minutes / booked_measured_minutes",
        lambda s: 1 - _ratio(s["booked_in_use_minutes"], s["booked_measured_minutes"]),
    ),
    "unscheduled": _share("unscheduled_minutes", "in_use_minutes"),
    "people_in_use": Figure(
        "people", "person_minutes / in_use_minutes", lambda s: _ratio(s["person_minutes"], s["in_use_minutes"])
    ),
    "no_show_rate": Figure(
        "ratio",
        "bookings_no_show / (bookings - bookings_unknown)",
        lambda s: _ratio(s["bookings_no_show"], _judged(s)),
    ),
    "unknown_rate": _share("bookings_unknown", "bookings"),
    "mean_attendance": Figure(
        "people", "attendance / attended_bookings", lambda s: _ratio(s["attendance"], s["attended_bookings"])
    ),
    "open_hours": _hours("open_minutes"),
    "measured_hours": _hours("measured_minutes"),
    "booked_hours": _hours("booked_minutes"),
    "in_use_hours": _hours("in_use_minutes", measured=True),
    "hours_lost": Figure(
        "hours",
        "(booked_measured_minutes - booked_in_use_minutes) / 60",
        lambda s: _unknown_unless(_booked_known(s), (s["booked_measured_minutes"] - s["booked_in_use_minutes"]) / 60),
        ("booked_minutes",),
    ),
    "unscheduled_hours": _hours("unscheduled_minutes", measured=True),
    "release_hours": Figure(
        "hours",
        "release_minutes / 60",
        lambda s: _unknown_unless((_judged(s) > 0) | (s["bookings"] == 0), s["release_minutes"] / 60),
        ("bookings", "bookings_unknown"),
    ),
    "person_hours": _hours("person_minutes", measured=True),
}
"""Every figure. Values above 1 are kept: a room can be over capacity. NaN is unknown, never 0: hours of use are unknown
where nothing was measured, and otherwise those of the measured part, to be read beside ``coverage``."""


def needed_measures(names: Iterable[str]) -> tuple[str, ...]:
    """Measures from which the named figures are computed.

    Raises:
        KeyError: there is no such figure.
    """
    return tuple(dict.fromkeys(measure for name in names for measure in FIGURES[name].needs))


def figures(sums: Sums, names: Iterable[str] | None = None) -> dict[str, Array]:
    """Figures from sums of measures, elementwise; by default all of ``FIGURES``."""
    s = {name: np.asarray(value, dtype=np.float64) for name, value in sums.items()}
    return {name: FIGURES[name].compute(s) for name in (FIGURES if names is None else names)}


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


class Moments:
    """People at the same moments, added up some rooms at a time: see ``peaks``."""

    def __init__(self) -> None:
        self._total: Array | None = None
        self._count: Array | None = None
        self._rooms = 0

    def add(self, people: Array, measured: Array) -> None:
        """Add rooms: person-minutes and measured minutes by quarter, shape (rooms, days, 96)."""
        seen = np.nan_to_num(measured) > 0
        mean = np.divide(np.nan_to_num(people), measured, out=np.zeros(seen.shape), where=seen)
        total, count = mean.sum(axis=0), seen.sum(axis=0).astype(np.float64)
        self._total = total if self._total is None else self._total + total
        self._count = count if self._count is None else self._count + count
        self._rooms += int(seen.any(axis=(1, 2)).sum())

    def peaks(self, first_day: int = 0, *, min_rooms: float = 0.6) -> Peaks:
        """See ``peaks``."""
        if self._total is None or self._count is None or not self._rooms:
            return Peaks(np.nan, np.nan, -1, -1, 0.0)
        usable = self._count >= max(1.0, min_rooms * self._rooms)
        if not usable.any():
            return Peaks(np.nan, np.nan, -1, -1, 0.0)
        best = int(np.where(usable, self._total, -1).argmax())
        return Peaks(
            float(np.quantile(self._total[usable], 0.95)),
            float(self._total.ravel()[best]),
            first_day + best // 96,
            best % 96,
            float(usable.sum() / (self._count > 0).sum()),
        )


def peaks(people: Array, measured: Array, first_day: int = 0, *, min_rooms: float = 0.6) -> Peaks:
    """Peaks of simultaneous sums: adding up each room's own peak would claim people who were never there together.

    Args:
        people, measured: person-minutes and measured minutes by quarter, shape (rooms, days, 96).
        first_day: local day of the first column, for ``day``.
        min_rooms: a moment counts when at least this share of the rooms that are ever measured was.
    """
    moments = Moments()
    moments.add(people, measured)
    return moments.peaks(first_day, min_rooms=min_rooms)
