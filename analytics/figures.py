"""Figures for a scope and a period from the day roll-ups: what command line, API and portal all call.

Sums are taken over roll-ups, ratios last (``analytics.domain.metrics``). A combined room is the floor of its parts:
it has figures of its own and is left out of the sums of a building.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from analytics.assemble import RoomDays, RulesOf, Site, default_rules, load_room
from analytics.domain import metrics
from analytics.domain.matching import Outcome
from analytics.domain.metrics import DEFINITION, Peaks
from analytics.domain.model import RollupTable, Room, StoredBooking
from analytics.domain.recurring import SeriesRules, SeriesSummary, summarise
from analytics.domain.time import Calendar, day_number
from analytics.store.base import Store

Array = npt.NDArray[np.float64]
_ROOMS_AT_ONCE = 50

DEFAULT_FIGURES = (
    "coverage", "planned_frequency", "frequency", "planned_fill", "fill", "planned_utilisation", "utilisation",
    "unused_booked", "unscheduled", "no_show_rate", "hours_lost", "release_hours",
)  # fmt: skip

NO_CLASS = "\0"
"""As a scope's room class: no room at all, for readers who may see none."""


class By(StrEnum):
    """What a row of a table stands for."""

    ALL = "all"
    ROOM = "room"
    BUILDING = "building"
    ROOM_CLASS = "class"
    HOUR = "hour"
    WEEKDAY = "weekday"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"
    PERIOD = "period"
    """Named periods of the organisation, such as teaching weeks; days outside them are one row without a name."""


@dataclass(frozen=True)
class Scope:
    """Which rooms, and which days of them. ``end`` is exclusive.

    Attributes:
        rooms: ids; empty: all that the other fields let through.
        weekdays: 0 = Monday; empty: every day.
        periods: names of periods of the organisation; empty: every day.
    """

    org_id: str
    start: date
    end: date
    buildings: tuple[str, ...] = ()
    rooms: tuple[str, ...] = ()
    room_class: str = ""
    weekdays: tuple[int, ...] = ()
    periods: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.end <= self.start:
            raise ValueError(f"the period ends ({self.end}) before it begins ({self.start}); the end is exclusive")

    def choose(self, site: Site) -> list[Room]:
        """The rooms meant, sorted by building and number.

        Raises:
            KeyError: a room or building that does not exist, by its id.
        """
        for building in self.buildings:
            if building not in site.buildings:
                raise KeyError(building)
        for room_id in self.rooms:
            if room_id not in site.rooms:
                raise KeyError(room_id)
        chosen = [site.rooms[r] for r in self.rooms] if self.rooms else list(site.rooms.values())
        chosen = [
            r for r in chosen
            if (not self.buildings or r.building_id in self.buildings)
            and (not self.room_class or r.room_class == self.room_class)
            and (r.retired_on is None or r.retired_on > self.start)
        ]  # fmt: skip
        if len(chosen) > 1:
            ids = {r.id for r in chosen}
            chosen = [r for r in chosen if not (r.parts and ids.intersection(r.parts))]
        return sorted(chosen, key=lambda r: (r.building_id, r.number, r.id))


@dataclass(frozen=True)
class FigureTable:
    """Rows of figures.

    Attributes:
        by: what a row stands for.
        labels: one for each row: room or building id, class, ``07`` to ``21`` hours, weekday 0 to 6, ISO date,
            ``2026-W36``, ``2026-09`` or the name of a period.
        sums: measure to shape (rows,).
        figures: figure to shape (rows,); NaN is unknown.
        total: the same figures over all rows.
        days_missing: room-days without a roll-up: not yet computed, or before the first count.
    """

    by: By
    labels: tuple[str, ...]
    sums: Mapping[str, Array] = field(repr=False)
    figures: Mapping[str, Array]
    total: Mapping[str, float]
    days_missing: int
    definition: str = DEFINITION


@dataclass(frozen=True)
class HeatMap:
    """Local hours by weekday.

    Attributes:
        figures: figure to shape (7, 24), Monday first; NaN where there is no data, also outside measuring hours.
    """

    figures: Mapping[str, Array]
    days_missing: int
    definition: str = DEFINITION


def table(
    store: Store, scope: Scope, by: By = By.ROOM, names: Sequence[str] = DEFAULT_FIGURES, site: Site | None = None
) -> FigureTable:
    """Figures of a scope, a row for each room, hour, week ...

    Raises:
        KeyError: unknown figure, room or building.
    """
    site = site or Site.load(store, scope.org_id)
    names = tuple(dict.fromkeys(("coverage", *names)))
    rooms = scope.choose(site)
    single = by in (By.ROOM, By.ROOM_CLASS)
    keys: list[str] = []
    parts: list[dict[str, Array]] = []
    missing = 0
    for loaded, gone in _pieces(store, scope, rooms, metrics.needed_measures(names), site, single=single):
        missing += gone
        if single or by is By.BUILDING:
            keys += [building_of(key) or _room_key(by, site.rooms[key]) for key in loaded.room_ids]
            axes: tuple[int, ...] = (1, 2)
        elif by is By.HOUR:
            keys += [f"{hour:02d}" for hour in range(24)]
            axes = (0, 1)
        else:
            keys += _day_keys(by, loaded.days, site)
            axes = (0, 2)
        parts.append({name: values.sum(axis=axes) for name, values in loaded.measures.items()})
    cells = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    labels, sums = _group(keys, cells)
    if by is By.HOUR:
        kept = sums["open_minutes"] > 0
        labels = tuple(label for label, keep in zip(labels, kept, strict=True) if keep)
        sums = {name: values[kept] for name, values in sums.items()}
    total = metrics.figures({name: values.sum() for name, values in sums.items()}, names)
    return FigureTable(by, labels, sums, metrics.figures(sums, names), {n: float(v) for n, v in total.items()}, missing)


def heat_map(store: Store, scope: Scope, names: Sequence[str] = ("frequency",), site: Site | None = None) -> HeatMap:
    """Hour by weekday over all rooms of a scope; ``coverage`` always comes with it."""
    site = site or Site.load(store, scope.org_id)
    names = tuple(dict.fromkeys(("coverage", *names)))
    rooms = scope.choose(site)
    needed = metrics.needed_measures(names)
    sums = {name: np.zeros((7, 24)) for name in needed}
    missing = 0
    for loaded, gone in _pieces(store, scope, rooms, needed, site):
        missing += gone
        weekday = np.array([day.weekday() for day in loaded.days], dtype=np.int64)
        for name, values in loaded.measures.items():
            sums[name] += heat_sums(values, weekday)
    return HeatMap(metrics.figures(sums, names), missing)


def heat_sums(values: Array, weekday: npt.NDArray[np.int64]) -> Array:
    """Sum shape (rooms, days, 24) to (7, 24); ``weekday`` has one entry a day."""
    over_rooms = values.sum(axis=0)
    result = np.zeros((7, over_rooms.shape[-1]))
    np.add.at(result, weekday, over_rooms)
    return result


def peaks(store: Store, scope: Scope, site: Site | None = None) -> Peaks:
    """Peaks of all rooms of a scope at the same moment."""
    site = site or Site.load(store, scope.org_id)
    rooms = scope.choose(site)
    moments = metrics.Moments()
    days: tuple[date, ...] = ()
    for at in range(0, len(rooms), _ROOMS_AT_ONCE):
        keys = [room.id for room in rooms[at : at + _ROOMS_AT_ONCE]]
        loaded = _load(store, scope, keys, (metrics.QUARTER_PEOPLE, metrics.QUARTER_MEASURED))
        people, measured = loaded.measures[metrics.QUARTER_PEOPLE], loaded.measures[metrics.QUARTER_MEASURED]
        if people.shape == measured.shape and people.shape[-1] == 96:  # else nothing was ever counted
            moments.add(people, measured)
            days = loaded.days
    found = moments.peaks()
    day = day_number(days[found.day]) if found.day >= 0 else -1
    return Peaks(found.p95, found.highest, day, found.quarter, found.moments)


def day_sums(store: Store, scope: Scope, rooms: Sequence[Room], names: Sequence[str], site: Site) -> RollupTable:
    """Sums by room, day and local hour; days without a roll-up hold their measuring hours alone."""
    return day_sums_missing(store, scope, rooms, names, site)[0]


def day_sums_missing(
    store: Store, scope: Scope, rooms: Sequence[Room], names: Sequence[str], site: Site
) -> tuple[RollupTable, Array]:
    """The same, and of each day how many rooms have no roll-up though they are open.

    The count needs ``open_minutes`` among the names.
    """
    loaded = _load(store, scope, [room.id for room in rooms], names)
    return loaded, _missing(loaded, rooms, site)


BUILDING_ROOMS, BUILDING_MISSING = "rooms", "rooms_missing"
"""Of a building's roll-up: rooms that it sums up, and how many of them have no roll-up that day; shape (..., 1)."""


def building_key(building_id: str) -> str:
    """The id under which the roll-ups of a whole building are kept beside those of rooms."""
    return f"~{building_id}"


def building_of(key: str) -> str | None:
    """Inverse of ``building_key``; None for a room's id."""
    return key[1:] if key.startswith("~") else None


def _pieces(
    store: Store, scope: Scope, rooms: Sequence[Room], names: Sequence[str], site: Site, *, single: bool = False
) -> Iterator[tuple[RollupTable, int]]:
    """Sums of a scope and the room-days missing in them, some rooms at a time, in little memory.

    From whole buildings where that says the same: a page over 1,000 rooms then reads 20 rows.
    """
    found = None if single else _whole_buildings(store, scope, rooms, names)
    if found is not None:
        yield found
        return
    for at in range(0, max(len(rooms), 1), _ROOMS_AT_ONCE):
        loaded, missing = day_sums_missing(store, scope, rooms[at : at + _ROOMS_AT_ONCE], names, site)
        yield loaded, int(missing.sum())


def _whole_buildings(
    store: Store, scope: Scope, rooms: Sequence[Room], names: Sequence[str]
) -> tuple[RollupTable, int] | None:
    """The roll-ups of the buildings; None where they do not cover exactly these rooms on every day."""
    count: dict[str, int] = {}
    for room in rooms:
        count[room.building_id] = count.get(room.building_id, 0) + 1
    if scope.rooms or scope.room_class or len(count) == len(rooms) or any(room.retired_on for room in rooms):
        return None
    keys = [building_key(building) for building in count]
    guard = _load(store, scope, keys, (BUILDING_ROOMS, BUILDING_MISSING))
    summed = guard.measures[BUILDING_ROOMS][:, :, 0]
    if not (summed == np.array(list(count.values()))[:, None]).all():  # NaN is not equal either
        return None
    return _load(store, scope, keys, names), int(guard.measures[BUILDING_MISSING][:, :, 0].sum())


def group_days(
    by: By, days: Sequence[date], cells: Mapping[str, Array], site: Site
) -> tuple[list[date], dict[str, Array]]:
    """Add days up to weeks, months ...; the first day of each group and the sums."""
    keys = _day_keys(by, days, site)
    _, sums = _group(keys, cells)
    first: dict[str, date] = {}
    for key, day in zip(keys, days, strict=True):
        first.setdefault(key, day)
    return list(first.values()), sums


def _load(store: Store, scope: Scope, keys: Sequence[str], names: Sequence[str]) -> RollupTable:
    """Roll-ups of the days of a scope; ``_missing`` looks after days without one."""
    loaded = store.rollups(scope.org_id, keys, scope.start, scope.end, DEFINITION, names)
    keep = _kept_days(store, scope, loaded.days)
    if keep is None:
        return loaded
    return RollupTable(
        loaded.room_ids,
        tuple(day for day, kept in zip(loaded.days, keep, strict=True) if kept),
        loaded.definition,
        {name: values[:, keep] for name, values in loaded.measures.items()},
    )


def _kept_days(store: Store, scope: Scope, days: Sequence[date]) -> npt.NDArray[np.bool_] | None:
    if not scope.weekdays and not scope.periods:
        return None
    keep = np.ones(len(days), dtype=np.bool_)
    if scope.weekdays:
        keep &= np.array([day.weekday() in scope.weekdays for day in days], dtype=np.bool_)
    if scope.periods:
        named = [p for p in store.organisation(scope.org_id).periods if p.name in scope.periods]
        keep &= np.array([any(p.start <= day < p.end for p in named) for day in days], dtype=np.bool_)
    return keep


def _missing(loaded: RollupTable, rooms: Sequence[Room], site: Site) -> Array:
    """Fill room-days without a roll-up, in place, and count those that should have one, shape (days,).

    Nothing was counted or booked on them, so all that they hold is the hours that should have been measured: a
    sensor that never spoke must lower the coverage and not vanish from it.
    """
    missing = np.zeros(len(loaded.days))
    for name, values in loaded.measures.items():
        gone = np.isnan(values)
        if not gone.any():
            continue
        if name in ("open_minutes", "seat_minutes_open"):
            for row in np.flatnonzero(gone.any(axis=(1, 2))).tolist():
                at = np.flatnonzero(gone[row].any(axis=1))
                hours = _open_minutes(site.calendar(rooms[row]), [loaded.days[day] for day in at.tolist()])
                if name == "open_minutes":
                    missing[at] += hours.sum(axis=1) > 0
                else:
                    seats = [rooms[row].capacity_on(loaded.days[day]) or 0 for day in at.tolist()]
                    hours = hours * np.array(seats, dtype=np.float64)[:, None]
                values[row, at] = hours
        else:
            values[gone] = 0.0
    return missing


def _open_minutes(calendar: Calendar, days: Sequence[date]) -> Array:
    """Measuring minutes by day and local hour, shape (days, 24); 0 on closed days."""
    week = np.zeros((7, 1440))
    for weekday, windows in enumerate(calendar.hours):
        for begin, end in windows:
            week[weekday, begin:end] = 1
    by_hour = week.reshape(7, 24, 60).sum(axis=2)
    result: Array = by_hour[[day.weekday() for day in days]]
    result[[day_number(day) in calendar.closed for day in days]] = 0
    return result


def _room_key(by: By, room: Room) -> str:
    if by is By.ROOM:
        return room.id
    return room.building_id if by is By.BUILDING else room.room_class


def _day_keys(by: By, days: Iterable[date], site: Site) -> list[str]:
    periods = tuple((p.name, day_number(p.start), day_number(p.end) - 1) for p in site.organisation.periods)
    named: Callable[[int], str] = Calendar(ZoneInfo("UTC"), periods=periods).period_of

    def key(day: date) -> str:
        if by is By.ALL:
            return "all"
        if by is By.WEEKDAY:
            return str(day.weekday())
        if by is By.DAY:
            return day.isoformat()
        if by is By.WEEK:
            year, week, _ = day.isocalendar()
            return f"{year}-W{week:02d}"
        if by is By.MONTH:
            return f"{day.year}-{day.month:02d}"
        return named(day_number(day))

    return [key(day) for day in days]


def _group(keys: Sequence[str], cells: Mapping[str, Array]) -> tuple[tuple[str, ...], dict[str, Array]]:
    """Add cells with the same key up; labels in order of first appearance, weekdays and hours in theirs."""
    labels = tuple(dict.fromkeys(keys))
    if all(len(label) <= 2 and label.isdigit() for label in labels):
        labels = tuple(sorted(labels))
    place = {label: i for i, label in enumerate(labels)}
    index = np.array([place[key] for key in keys], dtype=np.int64)
    sums = {}
    for name, values in cells.items():
        sums[name] = np.zeros(len(labels))
        np.add.at(sums[name], index, values)
    return labels, sums


@dataclass(frozen=True)
class BookingRow:
    """One booking with what became of it; NaN is unknown.

    Attributes:
        late_withdrawn: cancelled or moved after it had begun.
        index: its row in ``of.matches``, for the reasons.
    """

    booking: StoredBooking
    of: RoomDays = field(repr=False)
    index: int
    outcome: Outcome
    attendance: float
    coverage: float
    confidence: float
    capacity: float
    late_withdrawn: bool


def booking_rows(
    store: Store, site: Site, room_id: str, first: date, last: date, rules_of: RulesOf = default_rules
) -> list[BookingRow]:
    """The bookings of one room that start on ``first`` to ``last`` inclusive, judged, in order of time."""
    days = load_room(store, site, room_id, first, last, rules_of)
    found = days.matches
    return [
        BookingRow(
            days.bookings[i], days, i, Outcome(int(found.outcome[i])), float(found.attendance[i]),
            float(found.coverage[i]), float(found.confidence[i]), float(found.plan.capacity[i]),
            bool(days.late_withdrawn[i]),
        )
        for i in days.chosen()
    ]  # fmt: skip


def series_key(booking: StoredBooking) -> str:
    """What makes bookings a series: what their source says, else the same title in the same place."""
    return f"{booking.source}/{booking.series}" if booking.series else f"{booking.source}/{booking.title}"


def series_of(rows: Sequence[BookingRow], rules: SeriesRules | None = None) -> dict[str, SeriesSummary]:
    """Structural verdicts on the series among some judged bookings of one room or of several."""
    return summarise(
        [series_key(row.booking) for row in rows],
        np.array([row.outcome for row in rows], dtype=np.int8),
        np.array([row.attendance for row in rows], dtype=np.float32),
        np.array([row.capacity for row in rows], dtype=np.float32),
        rules,
    )


def months(start: date, end: date) -> Iterable[tuple[date, date]]:
    """Pieces of ``[start, end)`` of a month at most: (first, last inclusive)."""
    at = start
    while at < end:
        following = date(at.year + at.month // 12, at.month % 12 + 1, 1)
        yield at, min(following, end) - timedelta(days=1)
        at = following
