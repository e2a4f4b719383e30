"""Any REST interface that answers JSON, described by a map instead of by code."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, ClassVar, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from .base import (
    Adapter,
    AdapterSettings,
    Booking,
    BookingStatus,
    ProtocolError,
    RoomRef,
    overlaps,
    whole_number,
)
from .http import Auth, HeaderAuth, NoAuth
from .mapping import TimeFormat, expect_list, moment, pick

MAX_PAGES = 10_000


class Paging(BaseModel):
    """How the rest of an answer is asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    style: Literal["none", "next_link", "cursor", "page", "offset"] = "none"
    path: str = Field("", description="Where the answer names the next link or cursor.")
    parameter: str = Field("", description="Query parameter that takes the cursor, page number or offset.")
    size_parameter: str = Field("", description="Query parameter that takes the number of items a page.")
    size: int = Field(100, ge=1, le=10_000)
    first: int = Field(1, description="Number of the first page, mostly 1 or 0.")


class Fields(BaseModel):
    """Dotted path in one item of the answer, per field of the booking; empty = the system does not say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    room: str
    start: str
    end: str
    title: str = ""
    building: str = ""
    version: str = ""
    status: str = ""
    expected_size: str = ""
    booked_by: str = ""
    category: str = ""


class RestSettings(AdapterSettings):
    """The map of a REST interface."""

    base_url: str = Field(title="Address", description="Begin of every request, https.")
    auth_header: str = Field("Authorization", title="Header of the token")
    auth_prefix: str = Field("Bearer ", title="Text before the token")
    token: SecretStr | None = Field(None, title="Token")
    rooms_path: str = Field(title="Path of the rooms")
    rooms_items: str = Field("", title="Where the list of rooms lies in the answer")
    room_id: str = Field("id", title="Field: number of a room")
    room_name: str = Field("name", title="Field: name of a room")
    room_capacity: str = Field("", title="Field: capacity of a room")
    room_building: str = Field("", title="Field: building of a room")
    bookings_path: str = Field(title="Path of the bookings", description="May hold {room}, {start} and {end}.")
    bookings_items: str = Field("", title="Where the list of bookings lies in the answer")
    parameters: dict[str, str] = Field({}, title="Query", description="Values may hold {room}, {start} and {end}.")
    request_time: Literal["iso", "date", "epoch_seconds", "epoch_milliseconds"] = Field("iso", title="Times we send")
    answer_time: TimeFormat = Field("iso", title="Times we get")
    paging: Paging = Paging()
    fields: Fields
    status_words: dict[str, BookingStatus] = Field({}, title="Status", description="Word of the system to ours.")


class RestAdapter(Adapter[RestSettings]):
    """Bookings from a mapped REST interface."""

    name: ClassVar[str] = "rest"
    title: ClassVar[str] = "REST interface (JSON)"
    Settings: ClassVar[type[AdapterSettings]] = RestSettings

    def open(self) -> None:
        settings = self.settings
        auth: Auth = NoAuth()
        if settings.token is not None:
            auth = HeaderAuth(settings.auth_header, settings.auth_prefix + settings.token.get_secret_value())
        self.http = self.client(settings.base_url, auth)

    def rooms(self) -> list[RoomRef]:
        s = self.settings
        return [
            RoomRef(
                ref=str(pick(item, s.room_id)),
                name=str(pick(item, s.room_name) or ""),
                building=str((pick(item, s.room_building) if s.room_building else "") or s.building),
                capacity=whole_number(pick(item, s.room_capacity)) if s.room_capacity else None,
            )
            for item in self._pages(s.rooms_path, {}, s.rooms_items)
            if pick(item, s.room_id) is not None
        ]

    def fetch(self, rooms: Sequence[str], start: datetime, end: datetime) -> list[Booking]:
        s = self.settings
        per_room = "{room}" in s.bookings_path or any("{room}" in value for value in s.parameters.values())
        asked = (list(rooms) or [room.ref for room in self.rooms()]) if per_room else [""]
        wanted = set(rooms)

        def one(room: str) -> list[Booking]:
            words = {"room": room, "start": self._sent(start), "end": self._sent(end)}
            path = s.bookings_path.format(**{key: quote(value, safe="") for key, value in words.items()})
            parameters = {key: value.format(**words) for key, value in s.parameters.items()}
            return [self._booking(item, room) for item in self._pages(path, parameters, s.bookings_items)]

        found = [booking for part in self.http.map(one, asked) for booking in part]
        return [
            booking
            for booking in found
            if (not wanted or booking.room_ref in wanted) and overlaps(booking.start, booking.end, start, end)
        ]

    def _sent(self, value: datetime) -> str:
        match self.settings.request_time:
            case "date":
                return value.astimezone(self.settings.zone).date().isoformat()
            case "epoch_seconds":
                return str(int(value.timestamp()))
            case "epoch_milliseconds":
                return str(int(value.timestamp() * 1000))
            case _:
                return value.isoformat().replace("+00:00", "Z")

    def _pages(self, path: str, parameters: dict[str, str], items: str) -> Iterator[Any]:
        paging = self.settings.paging
        query: dict[str, str] | None = dict(parameters)
        if query is not None and paging.size_parameter:
            query[paging.size_parameter] = str(paging.size)
        position = paging.first if paging.style == "page" else 0
        seen: set[str] = set()
        for _ in range(MAX_PAGES):
            if query is not None and paging.style in ("page", "offset"):
                query[paging.parameter] = str(position)
            answer = self.http.get_json(path, query)
            page = expect_list(pick(answer, items), items or "(the answer itself)")
            yield from page
            following = pick(answer, paging.path) if paging.style in ("next_link", "cursor") else None
            if paging.style == "none" or (paging.style in ("page", "offset") and len(page) < paging.size):
                return
            if paging.style in ("next_link", "cursor"):
                if not following:
                    return
                if str(following) in seen:
                    raise ProtocolError("the system names the same next page twice")
                seen.add(str(following))
            if paging.style == "next_link":
                path, query = str(following), None
            elif paging.style == "cursor" and query is not None:
                query[paging.parameter] = str(following)
            else:
                position += 1 if paging.style == "page" else len(page)
        raise ProtocolError(f"more than {MAX_PAGES} pages; does the system ignore the paging parameters?")

    def _booking(self, item: Any, room: str) -> Booking:
        f, s = self.settings.fields, self.settings

        def value(path: str) -> Any:
            return pick(item, path) if path else None

        word = str(value(f.status) or "")
        return self.booking(
            source_id=value(f.id),
            version=value(f.version),
            room_ref=value(f.room) or room,
            building=value(f.building),
            title=value(f.title),
            start=moment(value(f.start), s.answer_time, s.zone, field=f.start),
            end=moment(value(f.end), s.answer_time, s.zone, field=f.end),
            status=s.status_words.get(word, BookingStatus.PLANNED),
            expected_size=value(f.expected_size),
            booked_by=value(f.booked_by),
            category=value(f.category),
        )
