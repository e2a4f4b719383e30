"""MyTimetable (Eveoh, Semestry).

Shapes: the vendor's wiki pages on the API token and the REST interface, and the public client
``semestry/mytimetable-api-client`` (2021). Times are milliseconds since 1970, paging does not exist, the token is a
header. The vendor asks for narrow windows and few requests: one request per room and pull.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, ClassVar

from pydantic import Field, SecretStr

from .base import Adapter, AdapterSettings, Booking, ProtocolError, RoomRef, overlaps
from .http import HeaderAuth
from .mapping import expect_list, expect_mapping, moment, pick

MAX_EVENTS = 10_000


class MyTimetableSettings(AdapterSettings):
    """Address and token."""

    base_url: str = Field(title="Address", description="For example https://timetable.example.edu")
    token: SecretStr = Field(title="API token")
    impersonate: str = Field("", title="requestedAuth", description="Only when the token needs it.")


class MyTimetableAdapter(Adapter[MyTimetableSettings]):
    """Bookings from MyTimetable, one timetable per location."""

    name: ClassVar[str] = "mytimetable"
    title: ClassVar[str] = "MyTimetable"
    Settings: ClassVar[type[AdapterSettings]] = MyTimetableSettings

    def open(self) -> None:
        settings = self.settings
        headers = {"requestedAuth": settings.impersonate} if settings.impersonate else {}
        auth = HeaderAuth("apiToken", settings.token.get_secret_value())
        self.http = self.client(settings.base_url, auth, headers=headers)

    def rooms(self) -> list[RoomRef]:
        answer = expect_list(self.http.get_json("api/v0/timetables", {"type": "location"}), "timetables")
        return [
            RoomRef(ref=str(item["value"]), name=str(item.get("description") or ""), building=self.settings.building)
            for item in answer
            if isinstance(item, dict) and item.get("value")
        ]

    def fetch(self, rooms: Sequence[str], start: datetime, end: datetime) -> list[Booking]:
        def one(room: str) -> list[Booking]:
            query = {
                "key": room,
                "startDate": str(int(start.timestamp() * 1000)),
                "endDate": str(int(end.timestamp() * 1000)),
                "limit": str(MAX_EVENTS),
            }
            events = expect_list(self.http.get_json("api/v0/timetable", query), "events")
            if len(events) >= MAX_EVENTS:
                raise ProtocolError(f"a room has {MAX_EVENTS} events or more in the window; ask for fewer days at once")
            return [self._booking(expect_mapping(event, "an event"), room) for event in events]

        asked = list(rooms) or [room.ref for room in self.rooms()]
        found = [booking for part in self.http.map(one, asked) for booking in part]
        return [booking for booking in found if overlaps(booking.start, booking.end, start, end)]

    def _booking(self, event: Any, room: str) -> Booking:
        zone = self.settings.zone
        begin = moment(event.get("startDate"), "epoch_milliseconds", zone, field="startDate")
        staff = [str(pick(person, "name") or person) for person in event.get("staffMembers") or []]
        module = event.get("moduleCode") or ""
        # Older versions give no number. The description may hold a name, so only its digest becomes part of the key.
        described = sha256(str(event.get("activityDescription") or "").encode()).hexdigest()[:16]
        identity = event.get("id") or f"{begin.isoformat()}|{module}|{described}"
        sets = [pick(item, "size") for item in event.get("studentSets") or []]
        sizes = [int(size) for size in sets if isinstance(size, int)]
        return self.booking(
            source_id=identity,
            room_ref=room,
            title=event.get("activityDescription"),
            start=begin,
            end=moment(event.get("endDate"), "epoch_milliseconds", zone, field="endDate"),
            expected_size=sum(sizes) if sizes else None,
            booked_by=staff[0] if staff else None,
            category=pick(event, "eventType.name") or event.get("activityTypeName"),
            series=module,
            people=staff,
        )
