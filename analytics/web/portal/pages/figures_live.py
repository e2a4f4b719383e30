"""Every room at this moment: people, plan, and since when nothing is known.

Counts and bookings of today are read once for all rooms. A door says who went in and out, so its room is integrated
from the night on, the way the roll-ups do it; presence is what was sent last. A count older than ``STALE`` is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

import numpy as np

from analytics.assemble import Site
from analytics.domain.model import HEALTH_BITS, BookingStatus, Building, Room, Sensor, SlotArray, StoredBooking, Watch
from analytics.domain.occupancy import Occupancy, combine, room_occupancy
from analytics.domain.plan import MatchRules, span_mask
from analytics.domain.series import per_minute
from analytics.domain.time import Calendar, FloatArray, day_bounds, local_grid, minute_of, moment_of
from analytics.store.base import Store

STALE = 10
"""Minutes after which the last count says nothing about now: a few lost messages are no outage."""


class State(StrEnum):
    """What a room is at this moment, most urgent first."""

    EMPTY_BOOKED = "empty_booked"
    """Booked, measured, and nobody inside for as long as a release policy would wait."""
    WAITING = "waiting"
    """Booked and empty, but not for long enough to say more."""
    FREE = "free"
    IN_USE = "in_use"
    IN_USE_UNBOOKED = "in_use_unbooked"
    UNKNOWN = "unknown"
    CLOSED = "closed"
    """Outside its measuring hours and not measured."""


@dataclass(frozen=True)
class RoomNow:
    """One room at one moment.

    Attributes:
        seats: None where unknown.
        people: None where unknown; never 0 for that.
        error: people by which a door count may be off; 0 for presence.
        measured_at: end of the last minute with a count today.
        booking, following: the booking under way and the next one today, of the room or of one that shares its floor.
        empty_since: when the last person left, as far as measured.
        silent: sensors of the room that sent nothing for ``STALE`` minutes though they should.
        health: what the newest messages complain of (``dark``, ``blocked`` ...).
    """

    room: Room
    building: Building
    state: State
    seats: int | None
    people: int | None
    error: float
    measured_at: datetime | None
    booking: StoredBooking | None
    following: StoredBooking | None
    empty_since: datetime | None
    sensors: int
    silent: tuple[str, ...]
    health: tuple[str, ...]

    @property
    def until(self) -> datetime | None:
        """Until when this holds by plan: the end of the booking, or the begin of the next one."""
        if self.booking is not None:
            return self.booking.end
        return self.following.start if self.following is not None else None


@dataclass(frozen=True)
class LiveView:
    """All rooms of an organisation; pages narrow it to what the reader may see."""

    at: datetime
    rooms: tuple[RoomNow, ...]


def live_view(store: Store, site: Site, now: datetime, rules: MatchRules | None = None) -> LiveView:
    """Every room that is in use today."""
    now = now.replace(second=0, microsecond=0)
    rules = rules or MatchRules()
    zones = {b.id: ZoneInfo(b.time_zone) for b in site.buildings.values()}
    if not zones:
        return LiveView(now, ())
    begins = [day_bounds(now.astimezone(zone).date(), zone) for zone in set(zones.values())]
    first, last = moment_of(min(b for b, _ in begins)), moment_of(max(e for _, e in begins))
    org_id = site.organisation.id
    slots = store.counts(org_id, [s.id for s in site.sensors if s.revoked_at is None], first, now)
    plan: dict[str, list[StoredBooking]] = {}
    for booking in store.bookings(org_id, None, first, last):
        live = booking.status in (BookingStatus.PLANNED, BookingStatus.TENTATIVE) and booking.end > booking.start
        if booking.room_id is not None and live:
            plan.setdefault(booking.room_id, []).append(booking)
    watching: dict[str, list[tuple[Sensor, Watch]]] = {}
    for sensor in site.sensors:
        for watch in sensor.watches:
            if sensor.revoked_at is None and _now_watching(watch, now):
                watching.setdefault(watch.room_id, []).append((sensor, watch))
    view = _View(site, zones, slots, plan, watching, now, rules)
    shown = [
        view.room(room)
        for room in site.rooms.values()
        if room.building_id in zones
        and (room.retired_on is None or room.retired_on > now.astimezone(zones[room.building_id]).date())
    ]
    return LiveView(now, tuple(shown))


def _now_watching(watch: Watch, now: datetime) -> bool:
    return (watch.valid_from is None or watch.valid_from <= now) and (
        watch.valid_until is None or watch.valid_until > now
    )


@dataclass(frozen=True)
class _View:
    site: Site
    zones: Mapping[str, ZoneInfo]
    slots: Mapping[str, SlotArray]
    plan: Mapping[str, Sequence[StoredBooking]]
    watching: Mapping[str, Sequence[tuple[Sensor, Watch]]]
    now: datetime
    rules: MatchRules

    def room(self, room: Room) -> RoomNow:
        building = self.site.buildings[room.building_id]
        bookings = self._bookings(room)
        calendar = self.site.calendar(room)
        occupancy, start = self._occupancy(room, calendar)
        people = occupancy.people
        valid = np.flatnonzero(~np.isnan(people))
        last = int(valid[-1]) if valid.size else -1
        fresh = last >= 0 and people.size - 1 - last < STALE
        count = int(people[last]) if fresh else None
        booking = next((b for b in bookings if b.start <= self.now < b.end), None)
        following = next((b for b in bookings if b.start > self.now), None)
        empty_since = _empty_since(people, valid, start) if count == 0 else None
        fitted = self._fitted(room)
        ends = {s.id: _last_contact(self.slots.get(s.id)) for s, _ in fitted}
        open_now = bool(calendar.open(local_grid(calendar.zone, minute_of(self.now), 1))[0])
        silent = tuple(
            i for i, at in ends.items() if open_now and (at is None or self.now - at >= timedelta(minutes=STALE))
        )
        return RoomNow(
            room, building, self._state(count, booking, empty_since, open_now), self._seats(room), count,
            float(occupancy.error[last]) if fresh else 0.0, moment_of(start + last + 1) if last >= 0 else None,
            booking, following, empty_since, len(ends), silent, _complaints([self.slots.get(i) for i in ends]),
        )  # fmt: skip

    def _state(
        self, count: int | None, booking: StoredBooking | None, empty_since: datetime | None, open_now: bool
    ) -> State:
        if count is None:
            return State.UNKNOWN if open_now else State.CLOSED
        if count >= self.rules.min_people:
            return State.IN_USE if booking else State.IN_USE_UNBOOKED
        if booking is None:
            return State.FREE
        patience = timedelta(minutes=max(self.rules.grace, self.rules.sustained))
        empty_for = self.now - max(booking.start, empty_since or booking.start)
        return State.EMPTY_BOOKED if empty_for >= patience else State.WAITING

    def _bookings(self, room: Room) -> list[StoredBooking]:
        """Of the room, of combined rooms that it is part of, and of its parts: they share the floor."""
        related = (room.id, *self.site.wholes.get(room.id, ()), *room.parts)
        found = [booking for room_id in related for booking in self.plan.get(room_id, ())]
        return sorted(found, key=lambda b: (b.start, b.end))

    def _fitted(self, room: Room) -> list[tuple[Sensor, Watch]]:
        own = list(self.watching.get(room.id, ()))
        return own or [pair for part in room.parts for pair in self.watching.get(part, ())]

    def _occupancy(self, room: Room, calendar: Calendar) -> tuple[Occupancy, int]:
        zone = self.zones[room.building_id]
        start, _ = day_bounds(self.now.astimezone(zone).date(), zone)
        length = minute_of(self.now) - start
        own = self.watching.get(room.id, ())
        if not own and room.parts:
            parts = [self.site.rooms[p] for p in room.parts if p in self.site.rooms]
            if parts:
                return combine([self._occupancy(part, self.site.calendar(part))[0] for part in parts]), start
        grid = local_grid(zone, start, length)
        measuring = calendar.open(grid)
        series = []
        for sensor, watch in own:
            slots = self.slots[sensor.id]
            if watch.valid_from is not None:  # nothing of what it sent before it was put up here
                slots = slots[slots["start"] >= watch.valid_from.timestamp()]
            counts = per_minute(slots, start, length)
            series.append(counts.watching(sensor.id, watch.kind, reversed_door=watch.reversed))
        looked = np.any([s.coverage > 0 for s in series], axis=0) if series else np.zeros(length, dtype=np.bool_)
        # As in analytics.assemble: empty where nobody looks outside the measuring hours, and in the dead of night.
        empty = ~measuring & (~looked | ((grid.minute >= 180) & (grid.minute < 300)))
        spans = self._bookings(room)
        begin = np.array([minute_of(b.start) for b in spans], dtype=np.int64) - self.rules.margin_before
        end = np.array([minute_of(b.end) for b in spans], dtype=np.int64) + self.rules.margin_after
        booked = span_mask(begin, end, start, length)
        return room_occupancy(series, length, empty=empty, booked=booked, expected=measuring), start

    def _seats(self, room: Room) -> int | None:
        return room.capacity_on(self.now.astimezone(self.zones[room.building_id]).date())


def _empty_since(people: FloatArray, valid: np.ndarray, start: int) -> datetime | None:
    """End of the last minute with somebody; the first measured minute where nobody was in all day."""
    peopled = valid[people[valid] > 0]
    return moment_of(start + int(peopled[-1]) + 1 if peopled.size else start + int(valid[0]))


def _last_contact(slots: SlotArray | None) -> datetime | None:
    if slots is None or not slots.size:
        return None
    return moment_of(int(slots["start"][-1] + slots["seconds"][-1]) // 60)


def _complaints(newest: Sequence[SlotArray | None]) -> tuple[str, ...]:
    bits = 0
    for slots in newest:
        if slots is not None and slots.size:
            bits |= int(slots["health"][-1])
    return tuple(name for name, bit in HEALTH_BITS.items() if name != "ok" and bits & bit)
