"""One room over some days, put together from the store: people per minute, plan, verdicts and minute facts.

This is the one place where stored counts and bookings meet the pure functions of ``analytics.domain``; roll-ups,
booking lists and the pages of a single room all start here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from analytics.domain.matching import Matches, match_room
from analytics.domain.metrics import DayCells, MinuteFacts, day_cells, in_use
from analytics.domain.model import (
    BookingStatus,
    Building,
    Closure,
    Organisation,
    Room,
    Sensor,
    StoredBooking,
    Watch,
)
from analytics.domain.occupancy import Occupancy, combine, room_occupancy
from analytics.domain.plan import Known, MatchRules, Plan, Version, known_at_start, planned_minutes, span_mask
from analytics.domain.series import MinuteCounts, per_minute
from analytics.domain.time import (
    BoolArray,
    Calendar,
    FloatArray,
    IntArray,
    LocalGrid,
    date_of,
    day_bounds,
    day_number,
    local_grid,
    minute_of,
    moment_of,
)
from analytics.store.base import Store

RulesOf = Callable[[Building], MatchRules]
"""Site rules of a building."""


def default_rules(building: Building) -> MatchRules:
    """The same rules everywhere: no academic quarter, no breaks."""
    return MatchRules()


@dataclass(frozen=True)
class Site:
    """Master data of an organisation, read once.

    Attributes:
        wholes: room id to the combined rooms that it is part of.
    """

    organisation: Organisation
    buildings: Mapping[str, Building]
    rooms: Mapping[str, Room]
    sensors: Sequence[Sensor]
    wholes: Mapping[str, tuple[str, ...]]

    @classmethod
    def load(cls, store: Store, org_id: str) -> Site:
        rooms = {room.id: room for room in store.rooms(org_id)}
        wholes: dict[str, list[str]] = {}
        for room in rooms.values():
            for part in room.parts:
                wholes.setdefault(part, []).append(room.id)
        return cls(
            store.organisation(org_id),
            {building.id: building for building in store.buildings(org_id)},
            rooms,
            store.sensors(org_id),
            {part: tuple(ids) for part, ids in wholes.items()},
        )

    def watching(self, room_id: str) -> list[tuple[Sensor, Watch]]:
        """Sensors of a room with what each one watches there."""
        return [(s, watch) for s in self.sensors for watch in s.watches if watch.room_id == room_id]

    def calendar(self, room: Room) -> Calendar:
        """Measuring hours and closures of a room: its own where it has them, with its building's closures."""
        building = self.buildings[room.building_id]
        hours = room.measuring_hours or building.measuring_hours
        periods = tuple((p.name, day_number(p.start), day_number(p.end) - 1) for p in self.organisation.periods)
        return Calendar(
            ZoneInfo(building.time_zone),
            tuple(tuple((span.start, span.end) for span in spans) for spans in hours.weekdays),
            frozenset(_closed_days((*building.closures, *room.closures))),
            periods,
        )


def _closed_days(closures: Iterable[Closure]) -> Iterable[int]:
    for closure in closures:
        yield from range(day_number(closure.start), day_number(closure.end))


@dataclass(frozen=True)
class RoomDays:
    """One room over whole local days with a day of context on either side.

    Attributes:
        first, last: local days asked for, inclusive; the grid begins a day earlier and ends a day later.
        bookings: one entry for each row of ``matches``.
        late_withdrawn: which of them were cancelled or moved after they had begun.
        own: which of them are this room's own, and not a combined room's that it is part of.
        withdrawn: bookings cancelled or moved before they began.
    """

    room: Room
    calendar: Calendar
    rules: MatchRules
    grid: LocalGrid
    first: date
    last: date
    occupancy: Occupancy
    bookings: tuple[StoredBooking, ...]
    late_withdrawn: BoolArray = field(repr=False)
    own: BoolArray = field(repr=False)
    withdrawn: tuple[StoredBooking, ...] = field(repr=False)
    matches: Matches = field(repr=False)
    facts: MinuteFacts = field(repr=False)

    def cells(self) -> DayCells:
        """Sums by local day and hour, context left out."""
        whole = day_cells(
            self.facts,
            self.grid,
            self.matches,
            np.array([minute_of(b.start) for b in self.withdrawn if b.room_id == self.room.id], dtype=np.int64),
            self.own,
        )
        low = day_number(self.first) - whole.first_day
        high = low + (self.last - self.first).days + 1
        return DayCells(
            day_number(self.first),
            {name: values[low:high] for name, values in whole.hours.items()},
            {name: values[low:high] for name, values in whole.quarters.items()},
        )

    def chosen(self) -> list[int]:
        """Rows of this room's own bookings that start on the days asked for."""
        start, end = day_bounds(self.first, self.calendar.zone, self.last)
        inside = (self.matches.plan.start >= start) & (self.matches.plan.start < end) & self.own
        found: list[int] = np.flatnonzero(inside).tolist()
        return found


def load_room(
    store: Store, site: Site, room_id: str, first: date, last: date, rules_of: RulesOf = default_rules
) -> RoomDays:
    """Read, correct and match one room over the local days ``first`` to ``last`` inclusive."""
    room = site.rooms[room_id]
    org_id = site.organisation.id
    building = site.buildings[room.building_id]
    calendar, rules = site.calendar(room), rules_of(building)
    start, end = day_bounds(first - timedelta(days=1), calendar.zone, last + timedelta(days=1))
    grid = local_grid(calendar.zone, start, end - start)
    related = (room_id, *site.wholes.get(room_id, ()))
    revisions = store.revisions(org_id, related, moment_of(start), moment_of(end))
    bookings, late, withdrawn = judged_bookings(revisions)
    plan = _plan(room, bookings, calendar.zone)
    booked = span_mask(plan.start - rules.margin_before, plan.end + rules.margin_after, start, grid.length)
    occupancy = _occupancy(store, site, room, grid, calendar, booked)
    matches = match_room(occupancy.people, start, plan, rules, breaks=rules.break_mask(grid), error=occupancy.error)
    minutes = planned_minutes(matches.clusters, matches.own_begin, matches.own_end, start, grid.length)
    facts = MinuteFacts(
        calendar.open(grid), occupancy.people, in_use(occupancy.people, rules), minutes, _seats(room, grid)
    )
    return RoomDays(
        room, calendar, rules, grid, first, last, occupancy, tuple(bookings),
        np.array(late, dtype=np.bool_), np.array([b.room_id == room_id for b in bookings], dtype=np.bool_),
        tuple(withdrawn), matches, facts,
    )  # fmt: skip


def _occupancy(
    store: Store, site: Site, room: Room, grid: LocalGrid, calendar: Calendar, booked: BoolArray
) -> Occupancy:
    """People in a room; a combined room without sensors of its own is the sum of its parts."""
    watching = site.watching(room.id)
    if not watching and room.parts:
        parts = [site.rooms[part] for part in room.parts if part in site.rooms]
        return combine([_occupancy(store, site, part, grid, site.calendar(part), booked) for part in parts])
    measuring = calendar.open(grid)
    slots = store.counts(site.organisation.id, {s.id for s, _ in watching}, moment_of(grid.start), moment_of(grid.end))
    series = [
        _while_watching(per_minute(slots[s.id], grid.start, grid.length), watch, grid).watching(
            s.id, watch.kind, reversed_door=watch.reversed
        )
        for s, watch in watching
        if _overlaps(watch, grid)
    ]
    # Outside the measuring hours a room is taken as empty where nobody looks, and in the dead of night in any case.
    looked = np.any([s.coverage > 0 for s in series], axis=0) if series else np.zeros(grid.length, dtype=np.bool_)
    empty = ~measuring & (~looked | ((grid.minute >= 180) & (grid.minute < 300)))
    return room_occupancy(series, grid.length, empty=empty, booked=booked, expected=measuring)


def _overlaps(watch: Watch, grid: LocalGrid) -> bool:
    begins = watch.valid_from is None or minute_of(watch.valid_from) < grid.end
    return begins and (watch.valid_until is None or minute_of(watch.valid_until) > grid.start)


def _while_watching(counts: MinuteCounts, watch: Watch, grid: LocalGrid) -> MinuteCounts:
    """Nothing of what a sensor sent before it was put up here or after it was taken away."""
    if watch.valid_from is None and watch.valid_until is None:
        return counts
    low = 0 if watch.valid_from is None else int(np.clip(minute_of(watch.valid_from) - grid.start, 0, grid.length))
    high = grid.length
    if watch.valid_until is not None:
        high = int(np.clip(minute_of(watch.valid_until) - grid.start, 0, grid.length))
    coverage = np.zeros_like(counts.coverage)
    coverage[low:high] = counts.coverage[low:high]
    return replace(counts, coverage=coverage)


def _seats(room: Room, grid: LocalGrid) -> FloatArray:
    """Capacity on the local date of each minute; NaN where unknown."""
    seats = np.full(grid.length, np.nan, dtype=np.float32)
    for capacity in sorted(room.capacities, key=lambda c: c.valid_from):
        begin = int(np.searchsorted(grid.day, day_number(capacity.valid_from)))
        seats[begin:] = np.nan if capacity.seats is None else capacity.seats
    return seats


def _plan(room: Room, bookings: Sequence[StoredBooking], zone: ZoneInfo) -> Plan:
    own = [b.room_id == room.id for b in bookings]
    expected = [b.expected_size if mine else None for b, mine in zip(bookings, own, strict=True)]
    seats = [room.capacity_on(b.start.astimezone(zone).date()) for b in bookings]

    def numbers(values: Sequence[int | None]) -> FloatArray:
        return np.array([np.nan if v is None else v for v in values], dtype=np.float32)

    return Plan(
        _minutes(b.start for b in bookings), _minutes(b.end for b in bookings), numbers(expected), numbers(seats)
    )


def _minutes(moments: Iterable[datetime]) -> IntArray:
    return np.array([minute_of(m) for m in moments], dtype=np.int64)


_LIVE = {BookingStatus.PLANNED, BookingStatus.TENTATIVE}


def judged_bookings(
    revisions: Collection[StoredBooking],
) -> tuple[list[StoredBooking], list[bool], list[StoredBooking]]:
    """The plan as known when each booking started, which of it was withdrawn late, and what was withdrawn in time."""
    groups: dict[tuple[str, str, str | None], list[StoredBooking]] = {}
    for revision in revisions:
        groups.setdefault((revision.source, revision.source_id, revision.room_id), []).append(revision)
    planned: list[tuple[StoredBooking, bool]] = []
    withdrawn: list[StoredBooking] = []
    for group in groups.values():
        versions = [
            Version(
                minute_of(r.recorded_at),
                None if r.superseded_at is None else minute_of(r.superseded_at),
                minute_of(r.start),
                r.status in _LIVE and not r.deleted,
            )
            for r in group
        ]
        for index, known in known_at_start(versions):
            if known is Known.WITHDRAWN:
                withdrawn.append(group[index])
            else:
                planned.append((group[index], known is Known.WITHDRAWN_LATE))
    planned.sort(key=lambda pair: (pair[0].start, pair[0].end, pair[0].source, pair[0].source_id))
    return [b for b, _ in planned], [late for _, late in planned], withdrawn


def local_days_of(utc_day: date, zone: ZoneInfo) -> tuple[date, date]:
    """First and last local day that a UTC day touches."""
    start = day_number(utc_day) * 1440
    grid = local_grid(zone, start, 1440)
    return date_of(int(grid.day[0])), date_of(int(grid.day[-1]))
