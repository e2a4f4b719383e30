"""Planon reservations through its REST interface.

Shapes: the vendor's public help pages on the REST interface (read, execute, the object UsrReservationMeetingRoom,
filters, date and time as an object, ``records`` in the answer). The customer decides the names of objects and the
numbers of states.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time
from typing import Any, ClassVar

from pydantic import Field, SecretStr

from .base import (
    Adapter,
    AdapterSettings,
    Booking,
    BookingStatus,
    ProtocolError,
    RoomRef,
    days_between,
    local_time,
    overlaps,
    whole_number,
)
from .http import HeaderAuth
from .mapping import expect_list, expect_mapping, pick


class PlanonSettings(AdapterSettings):
    """Address, key and the customer's names of objects and states."""

    base_url: str = Field(title="Address", description="https://CUSTOMER-prod.planoncloud.com/sdk/system/rest/v2")
    token: SecretStr = Field(title="Access key")
    auth_header: str = Field("Authorization", title="Header of the key")
    auth_prefix: str = Field("PLANONKEY accesskey=", title="Text before the key")
    reservation_object: str = Field("UsrReservationMeetingRoom", title="Object of the reservations", pattern=r"^\w+$")
    room_object: str = Field("UsrReservationUnitMeetingRoom", title="Object of the rooms", pattern=r"^\w+$")
    room_name: str = Field("Name", title="Field: name of a room")
    room_capacity: str = Field("Capacity", title="Field: capacity of a room")
    person_field: str = Field("PersonRef.Name", title="Field: who booked")
    size_field: str = Field("NumberOfAttendees", title="Field: expected size")
    states: dict[str, BookingStatus] = Field(
        {}, title="States", description="Number of a state to ours; others count as planned."
    )


class PlanonAdapter(Adapter[PlanonSettings]):
    """Bookings from Planon; the number of the reservation unit names the room."""

    name: ClassVar[str] = "planon"
    title: ClassVar[str] = "Planon"
    Settings: ClassVar[type[AdapterSettings]] = PlanonSettings

    def open(self) -> None:
        settings = self.settings
        key = settings.auth_prefix + settings.token.get_secret_value()
        self.http = self.client(settings.base_url, HeaderAuth(settings.auth_header, key))

    def rooms(self) -> list[RoomRef]:
        s = self.settings
        return [
            RoomRef(
                ref=str(record["Syscode"]),
                name=str(pick(record, s.room_name) or ""),
                building=str(pick(record, "PropertyRef") or s.building),
                capacity=whole_number(pick(record, s.room_capacity)),
            )
            for record in self._records(s.room_object, {})
            if record.get("Syscode") is not None
        ]

    def fetch(self, rooms: Sequence[str], start: datetime, end: datetime) -> list[Booking]:
        # The filter compares days; what only touches the window is cut afterwards.
        first, last = days_between(start, end, self.settings.zone)

        def one(room: str | None) -> list[Booking]:
            query: dict[str, Any] = {
                "BeginDateTime": {"lt": {"date": last.isoformat(), "time": "23:59:59"}},
                "EndDateTime": {"gt": {"date": first.isoformat(), "time": "00:00:00"}},
            }
            if room is not None:
                query["ReservationUnitRef"] = {"eq": int(room) if room.isdigit() else room}
            return [self._booking(record) for record in self._records(self.settings.reservation_object, query)]

        found = [booking for part in self.http.map(one, list(rooms) or [None]) for booking in part]
        return [booking for booking in found if overlaps(booking.start, booking.end, start, end)]

    def _records(self, name: str, query: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        answer = expect_mapping(self.http.post_json(f"read/{name}", {"filter": query}), "the answer")
        if errors := answer.get("errors"):
            code = pick(errors, "0.code")
            raise ProtocolError(f"read/{name}: Planon answers with error {code or 'without a code'}")
        for record in expect_list(answer.get("records"), "records"):
            yield expect_mapping(record, "a record")

    def _booking(self, record: Mapping[str, Any]) -> Booking:
        s = self.settings
        person = pick(record, s.person_field)
        return self.booking(
            source_id=record.get("Syscode"),
            version=record.get("ModificationDateTime"),
            room_ref=record.get("ReservationUnitRef"),
            building=record.get("PropertyRef"),
            title=record.get("Description"),
            start=self._time(record, "BeginDateTime"),
            end=self._time(record, "EndDateTime"),
            status=s.states.get(str(record.get("BusinessObjectStateRef")), BookingStatus.PLANNED),
            expected_size=pick(record, s.size_field),
            booked_by=str(person) if person else None,
            people=[str(person)] if person else [],
        )

    def _time(self, record: Mapping[str, Any], key: str) -> datetime:
        """Local time from ``{"date": ..., "time": ...}``; the fields that end in User are in the reader's own zone."""
        try:
            on = date.fromisoformat(str(pick(record, f"{key}.date")))
            at = time.fromisoformat(str(pick(record, f"{key}.time")))
        except ValueError:
            raise ProtocolError(f"{key} is not an object of date and time") from None
        return local_time(datetime.combine(on, at), self.settings.zone)
