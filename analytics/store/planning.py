"""What a pull changes, as a pure function: the stored plan of a source beside the pulled one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from analytics.domain.model import Building, PlannedBooking, PullResult, Room, StoredBooking
from analytics.store.documents import normalised

# Set-up margins reach a little beyond a booking: the day before or after may need computing again too.
_MARGIN = timedelta(hours=1)
_PLANNED_FIELDS = tuple(f.name for f in fields(PlannedBooking))


@dataclass(frozen=True, slots=True)
class PlanChange:
    """``add`` are new revisions, ``bury`` become tombstones, ``touched`` the bookings whose days changed."""

    add: tuple[PlannedBooking, ...]
    bury: tuple[StoredBooking, ...]
    touched: tuple[PlannedBooking, ...]
    result: PullResult


def pulled_by_id(source: str, bookings: Collection[PlannedBooking]) -> dict[str, PlannedBooking]:
    """Normalised bookings by ``source_id``. Raises ValueError for another source's booking or a key twice."""
    pulled: dict[str, PlannedBooking] = {}
    for booking in bookings:
        if booking.source != source:
            raise ValueError(f"booking {booking.source_id!r} is from {booking.source!r}, not from {source!r}")
        if booking.source_id in pulled:
            raise ValueError(f"{source!r} gave booking {booking.source_id!r} twice in one pull")
        pulled[booking.source_id] = normalised(booking)
    return pulled


def compare(
    live: Mapping[str, StoredBooking],
    pulled: Mapping[str, PlannedBooking],
    window: tuple[datetime, datetime],
    room_refs: Collection[str] | None,
) -> PlanChange:
    """``live``: the newest revision by ``source_id``, tombstones too, names opened."""
    add: list[PlannedBooking] = []
    touched: list[PlannedBooking] = []
    new = changed = revived = unchanged = 0
    for source_id, booking in pulled.items():
        old = live.get(source_id)
        if old is not None and not old.deleted and planned_part(old) == booking:
            unchanged += 1
            continue
        add.append(booking)
        touched.append(booking)
        if old is None:
            new += 1
        elif old.deleted:
            revived += 1
        else:
            changed += 1
            touched.append(old)
    bury = tuple(
        old
        for source_id, old in live.items()
        if source_id not in pulled
        and not old.deleted
        and overlaps(old, *window)
        and (room_refs is None or old.room_ref in room_refs)
    )
    result = PullResult(new=new, changed=changed, removed=len(bury), unchanged=unchanged, revived=revived)
    return PlanChange(tuple(add), bury, (*touched, *bury), result)


def planned_part(stored: StoredBooking) -> PlannedBooking:
    """A stored booking without what the store added."""
    return PlannedBooking(**{name: getattr(stored, name) for name in _PLANNED_FIELDS})


def stored_from(booking: PlannedBooking, org_id: str, revision: int, recorded_at: datetime) -> StoredBooking:
    """A first-hand revision."""
    values = {name: getattr(booking, name) for name in _PLANNED_FIELDS}
    return StoredBooking(**values, org_id=org_id, revision=revision, recorded_at=recorded_at)


def tombstone(old: StoredBooking, revision: int, recorded_at: datetime) -> StoredBooking:
    """What stands in the plan for a booking its source no longer has; the name goes at once."""
    return replace(old, revision=revision, recorded_at=recorded_at, superseded_at=None, deleted=True, booked_by=None)


def overlaps(booking: PlannedBooking, start: datetime, end: datetime) -> bool:
    """Half-open; a booking without length overlaps where it begins inside."""
    if booking.start == booking.end:
        return start <= booking.start < end
    return booking.start < end and booking.end > start


def stale_room_days(
    touched: Iterable[PlannedBooking], rooms: Mapping[str, Room], buildings: Mapping[str, Building]
) -> set[tuple[str, date]]:
    """The local days whose roll-ups bookings touch: of their room, and of those that share its floor."""
    days: set[tuple[str, date]] = set()
    wholes: dict[str, list[str]] = {}
    for whole in rooms.values():
        for part in whole.parts:
            wholes.setdefault(part, []).append(whole.id)
    for booking in touched:
        if booking.room_id is None:
            continue
        room = rooms.get(booking.room_id)
        building = buildings.get(room.building_id) if room else None
        zone = ZoneInfo(building.time_zone if building else "UTC")
        first = (booking.start - _MARGIN).astimezone(zone).date()
        last = (booking.end + _MARGIN).astimezone(zone).date()
        affected = {booking.room_id, *(room.parts if room else ()), *wholes.get(booking.room_id, ())}
        for offset in range((last - first).days + 1):
            days.update((room_id, first + timedelta(days=offset)) for room_id in affected)
    return days
