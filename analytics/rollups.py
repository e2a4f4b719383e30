"""Day roll-ups kept up to date as counts and bookings arrive, late ones too.

The store keeps a list of what changed; this computes those room-days again and strikes off what it has seen. A day
that changes meanwhile stays on the list. A page only ever adds roll-ups up: it never computes a year from minutes.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from analytics.assemble import RulesOf, Site, default_rules, load_room, local_days_of
from analytics.domain.metrics import DEFINITION, MEASURES
from analytics.domain.model import DayRollup, StaleDay, StaleKind
from analytics.figures import BUILDING_MISSING, BUILDING_ROOMS, Scope, building_key, day_sums_missing
from analytics.store.base import Store

log = logging.getLogger(__name__)

LEASE = "rollups"
_LEASE_TIME = timedelta(minutes=10)
_LONGEST_SPAN = 31


@dataclass(frozen=True)
class Refreshed:
    """What one round did. ``behind``: there may be more on the list."""

    room_days: int
    entries: int
    behind: bool


def refresh(store: Store, org_id: str, *, rules_of: RulesOf = default_rules, limit: int = 10_000) -> Refreshed:
    """Compute again what is stale, up to ``limit`` entries of the list."""
    stale = store.stale_days(org_id, limit)
    if not stale:
        return Refreshed(0, 0, False)
    site = Site.load(store, org_id)
    done = 0
    touched: set[tuple[str, date]] = set()
    for room_id, first, last in _spans(_room_days(site, stale)):
        store.put_rollups(org_id, roll_up(store, site, room_id, first, last, rules_of))
        done += (last - first).days + 1
        touched.update((site.rooms[room_id].building_id, day) for day in _months_of(first, last))
    for building_id, month in sorted(touched):
        store.put_rollups(org_id, roll_up_building(store, site, building_id, month))
    # Only now: a crash before this line computes the same days once more, and nothing is lost.
    store.clear_stale(org_id, stale)
    log.info("roll-ups of %s: %d room-days from %d entries", org_id, done, len(stale))
    return Refreshed(done, len(stale), len(stale) >= limit)


def refresh_all(store: Store, holder: str, now: datetime, *, rules_of: RulesOf = default_rules) -> int:
    """One round over every organisation, by whichever process holds the lease. Returns the room-days computed."""
    lease = store.acquire_lease(LEASE, holder, _LEASE_TIME, now)
    if lease is None:
        return 0
    try:
        return sum(refresh(store, org.id, rules_of=rules_of, limit=2_000).room_days for org in store.organisations())
    finally:
        store.release_lease(lease)


def rebuild(store: Store, org_id: str, first: date, last: date) -> int:
    """Put every room on the list for ``first`` to ``last`` inclusive: after new definitions, rules or closures.

    Returns the room-days; ``refresh`` computes them.
    """
    days = [first + timedelta(days=i) for i in range((last - first).days + 1)]
    rooms = [room.id for room in store.rooms(org_id)]
    store.mark_stale(org_id, ((room, day) for room in rooms for day in days))
    return len(rooms) * len(days)


def roll_up(
    store: Store, site: Site, room_id: str, first: date, last: date, rules_of: RulesOf = default_rules
) -> list[DayRollup]:
    """The roll-ups of one room from ``first`` to ``last`` inclusive, computed from minutes."""
    cells = load_room(store, site, room_id, first, last, rules_of).cells()
    measures = {**cells.hours, **cells.quarters}
    return [
        DayRollup(
            room_id,
            first + timedelta(days=row),
            DEFINITION,
            {name: np.ascontiguousarray(values[row]) for name, values in measures.items()},
        )
        for row in range((last - first).days + 1)
    ]


def roll_up_building(store: Store, site: Site, building_id: str, month: date) -> list[DayRollup]:
    """One month of a whole building, every day of it, from its rooms' roll-ups.

    Args:
        month: first day of the month.
    """
    scope = Scope(site.organisation.id, month, _next_month(month), buildings=(building_id,))
    rooms = scope.choose(site)
    if not rooms:
        return []
    loaded, missing = day_sums_missing(store, scope, rooms, MEASURES, site)
    total = {name: values.sum(axis=0) for name, values in loaded.measures.items()}
    return [
        DayRollup(
            building_key(building_id),
            day,
            DEFINITION,
            {name: values[i] for name, values in total.items()}
            | {BUILDING_ROOMS: np.array([float(len(rooms))]), BUILDING_MISSING: missing[i : i + 1]},
        )
        for i, day in enumerate(loaded.days)
    ]


def _next_month(first: date) -> date:
    return date(first.year + first.month // 12, first.month % 12 + 1, 1)


def _months_of(first: date, last: date) -> Iterator[date]:
    """First days of the months that ``first`` to ``last`` touch."""
    month = first.replace(day=1)
    while month <= last:
        yield month
        month = _next_month(month)


def _room_days(site: Site, stale: Iterable[StaleDay]) -> set[tuple[str, date]]:
    """Rooms and local days that the entries touch: with the day after, and with combined rooms and their parts."""
    watched: dict[str, list[str]] = {}
    for sensor in site.sensors:
        for watch in sensor.watches:
            watched.setdefault(sensor.id, []).append(watch.room_id)
    days: set[tuple[str, date]] = set()
    for entry in stale:
        rooms = watched.get(entry.id, []) if entry.kind is StaleKind.SENSOR else [entry.id]
        for room_id in _related(site, rooms):
            room = site.rooms.get(room_id)
            if room is None or room.building_id not in site.buildings:
                continue
            first = last = entry.day
            if entry.kind is StaleKind.SENSOR:
                first, last = local_days_of(entry.day, ZoneInfo(site.buildings[room.building_id].time_zone))
            days.update((room_id, first + timedelta(days=i)) for i in range((last - first).days + 1))
    return days


def _related(site: Site, rooms: Iterable[str]) -> set[str]:
    """Rooms whose figures change with these: the combined rooms that hold them, and the parts of combined ones."""
    found = set(rooms)
    for room_id in list(found):
        found.update(site.wholes.get(room_id, ()))
        if room_id in site.rooms:
            found.update(site.rooms[room_id].parts)
    return found


def _spans(days: set[tuple[str, date]]) -> Iterator[tuple[str, date, date]]:
    """Neighbouring days of a room as one span, so that counts are read once."""
    for room_id, group in itertools.groupby(sorted(days), key=lambda pair: pair[0]):
        first: date | None = None
        last = date.min
        for _, day in group:
            if first is not None and (day - last).days == 1 and (day - first).days < _LONGEST_SPAN:
                last = day
                continue
            if first is not None:
                yield room_id, first, last
            first = last = day
        if first is not None:
            yield room_id, first, last
