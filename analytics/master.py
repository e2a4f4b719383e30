"""Changes of master data, with what follows from them: figures of the days that they touch are computed again.

And what an organisation decided beside them: how long each class of its data is kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, replace
from datetime import date, timedelta

from analytics.domain.model import Building, Capacity, Closure, Room
from analytics.retention import RetentionPolicy
from analytics.store.base import Store
from analytics.store.errors import StaleWriteError
from analytics.store.kept import SealedKeep

LOOK_BACK_DAYS = 366
"""How far back figures are computed again; older ones keep the hours and seats that they were computed with."""
_AHEAD_DAYS = 62


def save_rooms(store: Store, org_id: str, rooms: Collection[Room], today: date) -> None:
    """Write rooms, and have the days computed again on which they now differ."""
    before = {room.id: room for room in store.rooms(org_id)}
    store.put_rooms(org_id, rooms)
    stale: set[tuple[str, date]] = set()
    for room in rooms:
        old = before.get(room.id)
        if old is not None:
            stale.update((room.id, day) for day in _changed_days(old, room, today))
    if stale:
        store.mark_stale(org_id, stale)


def save_building(store: Store, building: Building, today: date) -> None:
    """Write a building, and have the days of its rooms computed again on which its hours or closures differ."""
    old = next((b for b in store.buildings(building.org_id) if b.id == building.id), None)
    store.put_buildings(building.org_id, [building])
    if old is None:
        return
    if old.measuring_hours != building.measuring_hours or old.time_zone != building.time_zone:
        days = set(_window(today))
    else:
        days = _closed_differently(old.closures, building.closures, today)
    rooms = [room.id for room in store.rooms(building.org_id, building.id)]
    if days and rooms:
        store.mark_stale(building.org_id, {(room, day) for room in rooms for day in days})


def with_capacity(room: Room, seats: int | None, since: date) -> Room:
    """The room with other seats from a date on; the days before keep theirs."""
    kept = [capacity for capacity in room.capacities if capacity.valid_from != since]
    return replace(room, capacities=tuple(sorted((*kept, Capacity(since, seats)), key=lambda c: c.valid_from)))


def _changed_days(old: Room, new: Room, today: date) -> Iterable[date]:
    if old.measuring_hours != new.measuring_hours or old.parts != new.parts or old.building_id != new.building_id:
        return _window(today)
    days = _closed_differently(old.closures, new.closures, today)
    changed = set(old.capacities) ^ set(new.capacities)
    if changed:
        first = min(capacity.valid_from for capacity in changed)
        days |= {day for day in _window(today) if day >= first}
    return days


def _closed_differently(old: Iterable[Closure], new: Iterable[Closure], today: date) -> set[date]:
    window = set(_window(today))
    return {
        closure.start + timedelta(days=i)
        for closure in set(old) ^ set(new)
        for i in range((closure.end - closure.start).days)
    } & window


def _window(today: date) -> list[date]:
    return [today + timedelta(days=i) for i in range(-LOOK_BACK_DAYS, _AHEAD_DAYS)]


class Policies:
    """How long each organisation keeps each class of its data."""

    def __init__(self, keep: SealedKeep) -> None:
        self._keep = keep

    def retention(self, org_id: str) -> RetentionPolicy:
        """What the organisation decided, else the defaults."""
        kept = self._keep.get("retention", org_id, "policy")
        if kept is None:
            return RetentionPolicy()
        known = {name: kept.value[name] for name in asdict(RetentionPolicy()) if name in kept.value}
        return RetentionPolicy(**known)

    def set_retention(self, org_id: str, policy: RetentionPolicy) -> None:
        """Keep a decision."""
        while True:
            kept = self._keep.get("retention", org_id, "policy")
            try:
                self._keep.put("retention", org_id, "policy", asdict(policy), replaces=kept.version if kept else 0)
            except StaleWriteError:
                continue
            return
