"""Put a simulated campus into a store, for demos and tests; everything in it says that it is simulated."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta

from analytics.domain.model import (
    BookingStatus,
    Building,
    Capacity,
    Organisation,
    Period,
    PlannedBooking,
    Room,
    Sensor,
    Watch,
)
from analytics.domain.time import moment_of
from analytics.simulate.campus import ORGANISATION, SOURCE, Campus, SimulatedRoom
from analytics.simulate.timetable import Event, Grid
from analytics.store.base import Store

_NAMES = {
    Grid.TECHNICAL: "Simulated Technical Hall",
    Grid.QUARTER: "Simulated Arts Building",
    Grid.MEETING: "Simulated Offices",
}
_SUBJECTS = ("Statistics", "Mechanics", "Dutch Law", "Biochemistry", "Programming", "Ethics", "Logistics", "Marketing")


def populate(store: Store, campus: Campus, org_id: str = ORGANISATION) -> int:
    """Write rooms, sensors, counts and bookings. Returns the number of rooms; roll-ups are the roll-up job's work."""
    weeks = [campus.first + timedelta(weeks=week) for week in range(campus.weeks)]
    periods = tuple(Period(f"Teaching week {i + 1}", day, day + timedelta(weeks=1)) for i, day in enumerate(weeks))
    store.put_organisation(Organisation(org_id, "Simulated campus", campus.zone.key, periods=periods))
    store.put_buildings(
        org_id, [Building(org_id, f"sim-{kind.value}", name, campus.zone.key) for kind, name in _NAMES.items()]
    )
    known = {sensor.id for sensor in store.sensors(org_id)}
    bookings: list[PlannedBooking] = []
    withdrawn: list[PlannedBooking] = []
    for room in campus.each():
        store.put_rooms(org_id, [_room(campus, room, org_id)])
        for one in room.sensors:
            if one.sensor not in known:
                watch = Watch(room.room, one.kind, one.reversed)
                store.add_sensor(Sensor(org_id, one.sensor, f"Simulated {one.kind.value} sensor", (watch,)))
        received = datetime.combine(campus.last, time(23), UTC)
        store.ingest_slots(org_id, {one.sensor: one.slots for one in room.sensors}, received)
        bookings += _bookings(room, zip(room.events, room.plan.start.tolist(), room.plan.end.tolist(), strict=True))
        withdrawn += _bookings(room, room.withdrawn)
    window = (moment_of(campus.grid.start), moment_of(campus.grid.end))
    before = window[0] - timedelta(days=14)
    store.replace_bookings(org_id, SOURCE, window, [*bookings, *withdrawn], before)
    store.replace_bookings(
        org_id, SOURCE, window, [*bookings, *(_cancelled(b) for b in withdrawn)], window[0] - timedelta(days=1)
    )
    return campus.rooms


def _room(campus: Campus, room: SimulatedRoom, org_id: str) -> Room:
    return Room(
        org_id,
        room.room,
        room.building,
        f"{room.number // 100}.{room.number % 100:02d}",
        f"Simulated room {room.number}",
        (Capacity(campus.first, room.capacity),),
        room_class="meeting" if room.grid_kind is Grid.MEETING else "small" if room.capacity <= 40 else "large",
    )


def _bookings(room: SimulatedRoom, spans: Iterable[tuple[Event, int, int]]) -> list[PlannedBooking]:
    return [
        PlannedBooking(
            source=SOURCE,
            source_id=f"{room.room}-{start}",
            start=moment_of(start),
            end=moment_of(end),
            room_id=room.room,
            room_ref=room.room,
            building=room.building,
            title=_title(room, event),
            expected_size=event.enrolled,
            category="simulated",
            series=f"{room.room}-{event.series}" if event.series >= 0 else "",
        )
        for event, start, end in spans
    ]


def _title(room: SimulatedRoom, event: Event) -> str:
    if event.series < 0:
        return "Simulated meeting"
    return f"Simulated {_SUBJECTS[(room.number + event.series) % len(_SUBJECTS)]} {event.series + 1}"


def _cancelled(booking: PlannedBooking) -> PlannedBooking:
    fields = {name: getattr(booking, name) for name in PlannedBooking.__dataclass_fields__}
    return PlannedBooking(**{**fields, "status": BookingStatus.CANCELLED})
