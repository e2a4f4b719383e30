"""Recurring bookings over a period: structurally too large or too small rooms, and where they could go.

Outcomes and attendance of single bookings are read out of the roll-ups, by room, day and hour of their start; where
several bookings of a room start in one hour they are left unjudged rather than guessed. So a term of a campus is a
matter of array lookups, and no minute is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from analytics.assemble import Site
from analytics.domain.matching import Outcome
from analytics.domain.model import BookingStatus, Room
from analytics.domain.recurring import SeriesRules, SeriesSummary, Verdict, summarise
from analytics.domain.time import day_bounds, moment_of
from analytics.figures import series_key
from analytics.web.portal.core import PortalStore
from analytics.web.portal.pages.figures_data import BY_START, FigureData, Month
from analytics.web.portal.pages.figures_filter import Filter

_FRESH, _KEEP = 60.0, 900.0
_LIVE = (BookingStatus.PLANNED, BookingStatus.TENTATIVE)


@dataclass(frozen=True, slots=True)
class Slot:
    """One planned booking on local time; ``end`` is the hour after its last one, exclusive."""

    room_id: str
    day: date
    hour: int
    end: int
    minutes: int
    key: str
    title: str


@dataclass(frozen=True)
class Finding:
    """A series that its room does not fit, and what could be done.

    Attributes:
        hours: booked hours of the series in the period: what moving it frees.
        proposal: the smallest room of the building that fits and was free at every occurrence; None for none.
        proposal_seats: seats of it.
    """

    room: Room
    title: str
    summary: SeriesSummary
    hours: float
    when: tuple[tuple[int, int], ...]
    proposal: Room | None = None
    proposal_seats: int | None = None


def plan_of(store: PortalStore, site: Site, org_id: str, start: date, end: date) -> list[Slot]:
    """The present plan of all rooms, ``[start, end)`` local days by start."""
    zones = {b.id: ZoneInfo(b.time_zone) for b in site.buildings.values()}
    if not zones:
        return []
    bounds = [day_bounds(start, zone, end - timedelta(days=1)) for zone in set(zones.values())]
    low, high = moment_of(min(b for b, _ in bounds)), moment_of(max(e for _, e in bounds))
    found = []
    for booking in store.bookings(org_id, None, low, high):
        room = site.rooms.get(booking.room_id or "")
        if room is None or booking.status not in _LIVE or booking.end <= booking.start:
            continue
        zone = zones[room.building_id]
        begins, ends = booking.start.astimezone(zone), booking.end.astimezone(zone)
        if start <= begins.date() < end:
            last = 24 if ends.date() > begins.date() else ends.hour + (ends.minute > 0)
            minutes = int((booking.end - booking.start) / timedelta(minutes=1))
            found.append(Slot(room.id, begins.date(), begins.hour, last, minutes, series_key(booking), booking.title))
    return found


def findings(data: FigureData, choice: Filter, patience: float = 0.2) -> list[Finding] | None:
    """Series that do not fit their rooms, the greatest waste of seats first; the reader's buildings only.

    None while they are being computed for the first time and ``patience`` seconds are over: that takes seconds for a
    year of a campus.
    """
    choice = choice.between(choice.start, min(choice.end, data.today))
    if choice.days <= 0 or not data.site.rooms:
        return []
    key = (data.visit.org_id, "series", data.visible, choice.query(), data.today, data.fingerprint)
    return data.cache.soon(key, lambda: find(data, choice), fresh=_FRESH, keep=_KEEP, patience=patience)


def find(data: FigureData, choice: Filter, rules: SeriesRules | None = None) -> list[Finding]:
    """`findings`, computed now."""
    rules = rules or SeriesRules()
    months = data.months(choice.start, choice.end)
    rooms = {room.id: room for room in choice.rooms(data.site, data.visible)}
    periods = data.site.organisation.periods
    kept = {day for month in months for day in month.days if choice.keeps(day, periods)}
    members: dict[tuple[str, str], list[Slot]] = {}
    for month in months:
        for slot in _plan(data, month):
            if slot.room_id in rooms and slot.day in kept:
                members.setdefault((slot.room_id, slot.key), []).append(slot)
    repeated = {key: slots for key, slots in members.items() if len(slots) >= rules.least_held}
    lookup = _Lookup(months)
    judged = _judge(repeated, lookup, rooms, rules)
    found = []
    for (room_id, key), summary in judged.items():
        if summary.verdict in (Verdict.UNDER_USED, Verdict.OVER_FULL, Verdict.NEVER_HELD):
            slots = repeated[room_id, key]
            found.append((_finding(rooms[room_id], slots, summary), slots))
    found.sort(key=lambda pair: _waste(pair[0]), reverse=True)
    places = _Places(data, lookup, choice.last)
    return [places.propose(finding, slots) for finding, slots in found]


def _finding(room: Room, slots: Sequence[Slot], summary: SeriesSummary) -> Finding:
    when = tuple(sorted({(slot.day.weekday(), slot.hour) for slot in slots}))
    return Finding(room, slots[-1].title, summary, sum(slot.minutes for slot in slots) / 60, when)


def _waste(finding: Finding) -> float:
    """Seat-hours that the series does not need."""
    seats = abs(finding.summary.capacity - max(finding.summary.seats_needed, 0))
    return finding.hours * (seats if np.isfinite(seats) else 1.0)


def _plan(data: FigureData, month: Month) -> list[Slot]:
    first, end = month.days[0], month.days[-1] + timedelta(days=1)
    key = (data.visit.org_id, "plan", first, end, data.fingerprint)
    store, site, org_id = data.store, data.site, data.visit.org_id
    return data.cache.get(key, lambda: plan_of(store, site, org_id, first, end), fresh=_FRESH, keep=_KEEP)


class _Lookup:
    """Several months by room, day and hour.

    Attributes:
        cells: measure to shape (n + 1,); the last entry stands for hours in which nothing starts.
        booked: shape (rooms, days, 24).
    """

    def __init__(self, months: Sequence[Month]) -> None:
        self.rooms = {room_id: i for i, room_id in enumerate(months[0].room_ids)}
        self.days = {day: i for i, day in enumerate(day for month in months for day in month.days)}
        self.booked = np.concatenate([month.booked for month in months], axis=1) > 0
        self.cells = {
            name: np.append(np.concatenate([month.at_start[name] for month in months]), np.float32(0))
            for name in BY_START
        }
        self._index = np.full(self.booked.shape, -1, dtype=np.int64)
        first_day = first_cell = 0
        for month in months:
            room, day, hour = month.starts.T
            self._index[room, day + first_day, hour] = np.arange(first_cell, first_cell + room.size)
            first_day, first_cell = first_day + len(month.days), first_cell + room.size

    def at(self, slots: Sequence[Slot]) -> npt.NDArray[np.int64]:
        """Places in ``cells`` of the hours in which bookings start."""
        room = np.array([self.rooms[s.room_id] for s in slots], dtype=np.int64)
        day = np.array([self.days[s.day] for s in slots], dtype=np.int64)
        found: npt.NDArray[np.int64] = self._index[room, day, np.array([s.hour for s in slots], dtype=np.int64)]
        return found


def _judge(
    repeated: Mapping[tuple[str, str], Sequence[Slot]], lookup: _Lookup, rooms: Mapping[str, Room], rules: SeriesRules
) -> dict[tuple[str, str], SeriesSummary]:
    slots = [slot for group in repeated.values() for slot in group]
    if not slots:
        return {}
    keys = [key for key, group in repeated.items() for _ in group]
    at = lookup.at(slots)
    single = lookup.cells["bookings"][at] == 1
    outcome = np.full(len(slots), Outcome.UNKNOWN, dtype=np.int8)
    for kind in Outcome:
        outcome[single & (lookup.cells[f"bookings_{kind.word}"][at] == 1)] = kind
    alone = single & (lookup.cells["attended_bookings"][at] == 1)
    attendance = np.where(alone, lookup.cells["attendance"][at], np.float32(np.nan)).astype(np.float32)
    seats = [rooms[slot.room_id].capacity_on(slot.day) for slot in slots]
    capacity = np.array([np.nan if s is None else s for s in seats], dtype=np.float32)
    return summarise(keys, outcome, attendance, capacity, rules)


class _Places:
    """Rooms that were free, counted as taken once they have been proposed."""

    def __init__(self, data: FigureData, lookup: _Lookup, day: date) -> None:
        self._lookup = lookup
        self._taken = lookup.booked.copy()
        self._rooms: dict[str, list[tuple[int, Room]]] = {}
        for room in data.site.rooms.values():
            seats = room.capacity_on(day)
            if seats and not room.parts and room.building_id in data.visible and room.retired_on is None:
                self._rooms.setdefault(room.building_id, []).append((seats, room))
        for some in self._rooms.values():
            some.sort(key=lambda pair: (pair[0], pair[1].number))

    def propose(self, finding: Finding, slots: Sequence[Slot]) -> Finding:
        """The finding with the smallest room of the building that fits and was free each time."""
        needed, present = finding.summary.seats_needed, finding.summary.capacity
        if finding.summary.verdict is Verdict.NEVER_HELD or needed < 0:
            return finding
        days = np.array([self._lookup.days[s.day] for s in slots for _ in range(s.hour, s.end)], dtype=np.int64)
        hours = np.array([h for s in slots for h in range(s.hour, s.end)], dtype=np.int64)
        for seats, room in self._rooms.get(finding.room.building_id, ()):
            smaller = seats < present or finding.summary.verdict is Verdict.OVER_FULL
            if seats < needed or room.id == finding.room.id or not smaller:
                continue
            row = self._lookup.rooms[room.id]
            if not self._taken[row, days, hours].any():
                self._taken[row, days, hours] = True
                return replace(finding, proposal=room, proposal_seats=seats)
        return finding
