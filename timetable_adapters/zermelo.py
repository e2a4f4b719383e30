"""Zermelo Portal.

Shapes: the vendor's public page on ``appointments`` and its public app. An appointment has versions: several ``id`` of
one ``appointmentInstance``, of which one is valid. Only what *starts* inside the window is returned, so the window is
widened by a day and cut here. The token goes into the header: in the query it would end in logs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

from pydantic import Field, SecretStr

from .base import (
    Adapter,
    AdapterSettings,
    Booking,
    BookingStatus,
    ConfigurationError,
    ProtocolError,
    RoomRef,
    overlaps,
    whole_number,
)
from .http import HeaderAuth
from .mapping import expect_list, expect_mapping, moment, pick

FIELDS = (
    "id,appointmentInstance,start,end,valid,cancelled,moved,hidden,type,subjects,groups,teachers,locations,"
    "locationsOfBranch,expectedStudentCount,lastModified"
)
DAYS_AT_ONCE = 31


class ZermeloSettings(AdapterSettings):
    """Portal and token."""

    base_url: str = Field(title="Address", description="https://SCHOOL.zportal.nl/api/v3")
    token: SecretStr = Field(title="API token")
    school_in_school_year: int = Field(title="Number of the school year in Zermelo (schoolInSchoolYear)")


class ZermeloAdapter(Adapter[ZermeloSettings]):
    """Bookings from Zermelo; the number of the location of the branch names the room."""

    name: ClassVar[str] = "zermelo"
    title: ClassVar[str] = "Zermelo"
    Settings: ClassVar[type[AdapterSettings]] = ZermeloSettings

    def open(self) -> None:
        settings = self.settings
        self.http = self.client(
            settings.base_url, HeaderAuth("Authorization", f"Bearer {settings.token.get_secret_value()}")
        )

    def rooms(self) -> list[RoomRef]:
        query = {"schoolInSchoolYear": str(self.settings.school_in_school_year), "fields": "id,name,courseCapacity"}
        return [
            RoomRef(
                ref=str(item["id"]),
                name=str(item.get("name") or ""),
                building=self.settings.building,
                capacity=whole_number(item.get("courseCapacity")),
            )
            for item in self._data("locationofbranches", query)
            if item.get("id") is not None
        ]

    def fetch(self, rooms: Sequence[str], start: datetime, end: datetime) -> list[Booking]:
        wanted = set(rooms or [room.ref for room in self.rooms()])
        newest: dict[tuple[str, str], tuple[float, Booking]] = {}
        begin = start - timedelta(days=1)
        while begin < end:
            until = min(begin + timedelta(days=DAYS_AT_ONCE), end)
            query = {
                "locationsOfBranch": ",".join(sorted(wanted)),
                "start": str(int(begin.timestamp())),
                "end": str(int(until.timestamp())),
                "valid": "true",
                "fields": FIELDS,
            }
            for item in self._data("appointments", query):
                if item.get("valid") is False or item.get("hidden") is True:
                    continue
                for room in item.get("locationsOfBranch") or []:
                    if str(room) in wanted:
                        booking = self._booking(item, str(room))
                        key = (str(item.get("appointmentInstance")), booking.room_ref)
                        modified = float(item.get("lastModified") or 0)
                        if key not in newest or modified >= newest[key][0]:
                            newest[key] = (modified, booking)
            begin = until
        return [booking for _, booking in newest.values() if overlaps(booking.start, booking.end, start, end)]

    def _data(self, path: str, query: Mapping[str, str]) -> list[Mapping[str, Any]]:
        """The data of an envelope; its own status counts more than that of HTTP."""
        envelope = expect_mapping(pick(self.http.get_json(path, query), "response"), "response")
        status = whole_number(envelope.get("status")) or 0
        if status in (401, 403):
            raise ConfigurationError(f"{path}: status {status}: the token is not accepted or has no right to this")
        if status != 200:
            raise ProtocolError(f"{path}: the envelope says status {status}")
        data = [expect_mapping(item, "an item") for item in expect_list(envelope.get("data"), "data")]
        total = whole_number(envelope.get("totalRows"))
        if total is not None and total > len(data):
            raise ProtocolError(f"{path}: {len(data)} of {total} rows came; ask for fewer days or rooms at once")
        return data

    def _booking(self, item: Mapping[str, Any], room: str) -> Booking:
        zone = self.settings.zone
        teachers = [str(teacher) for teacher in item.get("teachers") or []]
        words = [*(item.get("subjects") or []), *(item.get("groups") or [])]
        status = BookingStatus.PLANNED
        if item.get("cancelled"):
            status = BookingStatus.CANCELLED
        return self.booking(
            source_id=item.get("appointmentInstance"),
            version=item.get("id"),
            room_ref=room,
            title=" ".join(str(word) for word in words),
            start=moment(item.get("start"), "epoch_seconds", zone, field="start"),
            end=moment(item.get("end"), "epoch_seconds", zone, field="end"),
            status=status,
            expected_size=item.get("expectedStudentCount"),
            booked_by=", ".join(teachers) or None,
            category=item.get("type"),
            people=teachers,
        )
