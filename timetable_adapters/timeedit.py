"""TimeEdit's REST interface.

Shapes: the vendor's public pages (getting started, reservations/find, cancellations/find, objects) and public code that
calls it: an API key is exchanged for a bearer token, FIND calls answer ``{"totalResults", "results"}``,
cancellations are a call of their own. Types and fields of objects are the customer's, so their names are settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar

from pydantic import Field, SecretStr

from .base import (
    Adapter,
    AdapterSettings,
    Booking,
    BookingStatus,
    ProtocolError,
    RoomRef,
    iso_time,
    overlaps,
    whole_number,
)
from .http import HeaderAuth, TokenAuth
from .mapping import expect_list, expect_mapping, pick

PAGE = 1000
MAX_RESERVATIONS = 1_000_000
TENTATIVE = {"C_PRELIMINARY", "C_PLANNED", "C_REQUESTED", "B_INCOMPLETE"}


class TimeEditSettings(AdapterSettings):
    """Organisation, API key, and the names this customer gave to types and fields."""

    base_url: str = Field("https://api.timeedit.net/v1", title="Address")
    organization: str = Field(title="Organisation", pattern=r"^[\w.-]+$")
    api_key: SecretStr = Field(title="API key")
    region: str = Field("EU_EES", title="Region")
    room_type: str = Field("room", title="Type of the rooms")
    room_name: str = Field("room.name", title="Field: name of a room")
    room_building: str = Field("room.building", title="Field: building of a room")
    room_capacity: str = Field("room.seats", title="Field: seats of a room")
    title_types: list[str] = Field(["course", "activity"], title="Types whose titles name the event")
    title_field: str = Field("general.title", title="Field: title of such an object")
    person_types: list[str] = Field(["person", "staff"], title="Types that are people")
    person_field: str = Field("person.name", title="Field: name of a person")
    size_field: str = Field("", title="Field: expected size of a reservation")


class TimeEditAdapter(Adapter[TimeEditSettings]):
    """Bookings from TimeEdit; the external number of the room names it."""

    name: ClassVar[str] = "timeedit"
    title: ClassVar[str] = "TimeEdit"
    Settings: ClassVar[type[AdapterSettings]] = TimeEditSettings

    def open(self) -> None:
        settings = self.settings
        region = {"X-Region": settings.region}
        key = HeaderAuth("Authorization", f"Api-Key {settings.api_key.get_secret_value()}")
        self.login = self.client(settings.base_url, key, headers=region)
        self.http = self.client(settings.base_url, TokenAuth(self._token), headers=region)

    def _token(self) -> str:
        path = f"organizations/{self.settings.organization}/api-keys/authenticate"
        token = pick(self.login.post_json(path, {}), "token")
        if not isinstance(token, str) or not token:
            raise ProtocolError("the login answered without a token")
        return token

    def rooms(self) -> list[RoomRef]:
        return [
            RoomRef(
                ref=str(item.get("extId") or item.get("id")),
                name=_field(item, self.settings.room_name),
                building=_field(item, self.settings.room_building) or self.settings.building,
                capacity=whole_number(_field(item, self.settings.room_capacity)),
            )
            for item in self._find("objects/find", {"type": self.settings.room_type})
        ]

    def fetch(self, rooms: Sequence[str], start: datetime, end: datetime) -> list[Booking]:
        wanted = set(rooms)
        query: dict[str, Any] = {
            "beginTime": _sent(start),
            "endTime": _sent(end),
            "idFormat": "EXTERNAL",
            "status": ["A_RESERVATION", "B_COMPLETE", "C_CONFIRMED", "D_TIME", *sorted(TENTATIVE)],
        }
        if wanted:
            query["objects"] = sorted(wanted)
        found: dict[str, Booking] = {}
        # A reservation that was restored is in both: what stands now counts, so it is read last.
        for path, cancelled in (("cancellations/find", True), ("reservations/find", False)):
            for item in self._find(path, query):
                for booking in self._bookings(item, cancelled):
                    if not wanted or booking.room_ref in wanted:
                        found[booking.source_id] = booking
        return [booking for booking in found.values() if overlaps(booking.start, booking.end, start, end)]

    def _find(self, path: str, query: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        begin = 0
        while begin < MAX_RESERVATIONS:
            body = {**query, "beginIndex": begin, "numberOfResults": PAGE}
            answer = expect_mapping(self.http.post_json(path, body), "the answer")
            page = expect_list(answer.get("results"), "results")
            for item in page:
                yield expect_mapping(item, "a result")
            total = whole_number(answer.get("totalResults"))
            begin += len(page)
            if total is None:
                raise ProtocolError(f"{path}: the answer does not say how many results there are")
            if begin >= total:
                return
            if not page:
                raise ProtocolError(f"{path}: {begin} of {total} results came, then an empty page")
        raise ProtocolError(f"{path}: more than {MAX_RESERVATIONS} results")

    def _bookings(self, item: Mapping[str, Any], cancelled: bool) -> Iterator[Booking]:
        s = self.settings
        objects = [expect_mapping(entry, "an object") for entry in expect_list(item.get("objects"), "objects")]
        people = [_field(entry, s.person_field) for entry in objects if entry.get("type") in s.person_types]
        titles = [_field(entry, s.title_field) for entry in objects if entry.get("type") in s.title_types]
        status = BookingStatus.PLANNED
        if cancelled:
            status = BookingStatus.CANCELLED
        elif item.get("status") in TENTATIVE:
            status = BookingStatus.TENTATIVE
        for room in (entry for entry in objects if entry.get("type") == s.room_type):
            yield self.booking(
                source_id=item.get("id"),
                version=item.get("modified"),
                room_ref=room.get("extId") or room.get("id"),
                building=_field(room, s.room_building),
                title=", ".join(title for title in titles if title),
                start=iso_time(item.get("beginTime"), s.zone, field="beginTime"),
                end=iso_time(item.get("endTime"), s.zone, field="endTime"),
                status=status,
                expected_size=_field(item, s.size_field) if s.size_field else None,
                booked_by=", ".join(person for person in people if person) or None,
                people=people,
            )


def _field(item: Mapping[str, Any], name: str) -> str:
    """The first value of a customer-defined field: ``fields: [{"extId": ..., "values": [...]}]``."""
    for field in item.get("fields") or []:
        if pick(field, "extId") == name:
            return str(pick(field, "values.0") or "")
    return ""


def _sent(value: datetime) -> str:
    return value.strftime("%Y%m%dT%H%M%SZ")
