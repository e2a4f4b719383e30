"""Microsoft 365 room mailboxes through Microsoft Graph.

Shapes: the public Graph documentation (calendar-list-calendarview, place-list, event, throttling). Traps taken care of:
rooms are keyed by mail address because ids change; cancelled meetings are filtered here because ``$filter`` misses
some; ``showAs=free`` is no use of a room; and the subject of a room's meeting is by default the organiser's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import Field, SecretStr

from .base import (
    Adapter,
    AdapterSettings,
    Booking,
    BookingStatus,
    ProtocolError,
    RoomRef,
    local_time,
    overlaps,
    whole_number,
)
from .http import TokenAuth
from .mapping import expect_list, expect_mapping, moment, pick

FIELDS = "id,subject,start,end,isCancelled,showAs,organizer,attendees,categories,type,seriesMasterId,changeKey,isAllDay"


class GraphSettings(AdapterSettings):
    """An app registration with the application rights Place.Read.All and Calendars.Read."""

    tenant: str = Field(title="Tenant", pattern=r"^[A-Za-z0-9.-]+$", description="Its number or domain.")
    client_id: str = Field(title="Application (client) number")
    client_secret: SecretStr = Field(title="Client secret")
    base_url: str = Field("https://graph.microsoft.com/v1.0", title="Address of Graph")
    login_url: str = Field("https://login.microsoftonline.com", title="Address of the login")


class GraphAdapter(Adapter[GraphSettings]):
    """Bookings from the calendars of room mailboxes."""

    name: ClassVar[str] = "microsoft-graph"
    title: ClassVar[str] = "Microsoft 365 rooms"
    Settings: ClassVar[type[AdapterSettings]] = GraphSettings

    def open(self) -> None:
        settings = self.settings
        self.login = self.client(settings.login_url)
        self.http = self.client(settings.base_url, TokenAuth(self._token), headers={"Prefer": 'outlook.timezone="UTC"'})

    def _token(self) -> str:
        answer = self.login.json(
            "POST",
            f"{self.settings.tenant}/oauth2/v2.0/token",
            form={
                "grant_type": "client_credentials",
                "client_id": self.settings.client_id,
                "client_secret": self.settings.client_secret.get_secret_value(),
                "scope": "https://graph.microsoft.com/.default",
            },
        )
        token = pick(answer, "access_token")
        if not isinstance(token, str) or not token:
            raise ProtocolError("the login answered without an access_token")
        return token

    def rooms(self) -> list[RoomRef]:
        return [
            RoomRef(
                ref=str(room["emailAddress"]),
                name=str(room.get("nickname") or room.get("displayName") or ""),
                building=str(room.get("building") or self.settings.building),
                capacity=whole_number(room.get("capacity")),
            )
            for room in self._pages("places/microsoft.graph.room", {"$top": "100"})
            if room.get("emailAddress")
        ]

    def fetch(self, rooms: Sequence[str], start: datetime, end: datetime) -> list[Booking]:
        def one(room: str) -> list[Booking]:
            query = {
                "startDateTime": start.isoformat(),
                "endDateTime": end.isoformat(),
                "$select": FIELDS,
                "$top": "500",
            }
            path = f"users/{quote(room, safe='@')}/calendarView"
            events = self._pages(path, query)
            return [self._booking(event, room) for event in events if event.get("showAs") != "free"]

        asked = list(rooms) or [room.ref for room in self.rooms()]
        found = [booking for part in self.http.map(one, asked) for booking in part]
        return [booking for booking in found if overlaps(booking.start, booking.end, start, end)]

    def _pages(self, path: str, query: Mapping[str, str] | None) -> Iterator[Mapping[str, Any]]:
        """All items; the next link is opaque and is taken as it stands."""
        seen: set[str] = set()
        while True:
            answer = expect_mapping(self.http.get_json(path, query), "the answer")
            for item in expect_list(answer.get("value"), "value"):
                yield expect_mapping(item, "an item")
            following = answer.get("@odata.nextLink")
            if not following:
                return
            if str(following) in seen:
                raise ProtocolError("the system names the same next page twice")
            seen.add(str(following))
            path, query = str(following), None

    def _booking(self, event: Mapping[str, Any], room: str) -> Booking:
        people = [pick(event, "organizer.emailAddress.name"), pick(event, "organizer.emailAddress.address")]
        for attendee in event.get("attendees") or []:
            people += [pick(attendee, "emailAddress.name"), pick(attendee, "emailAddress.address")]
        subject = str(event.get("subject") or "")
        cancelled = bool(event.get("isCancelled")) or subject.lower().startswith(("canceled:", "geannuleerd:"))
        return self.booking(
            source_id=event.get("id"),
            version=event.get("changeKey"),
            room_ref=room,
            title=subject,
            start=self._time(event, "start"),
            end=self._time(event, "end"),
            status=BookingStatus.CANCELLED if cancelled else BookingStatus.PLANNED,
            booked_by=people[0] or people[1],
            category=pick(event, "categories.0"),
            series=event.get("seriesMasterId"),
            # The room itself is an attendee of its own meetings; its name is no personal data.
            people=[person for person in people if person and person.casefold() != room.casefold()],
        )

    def _time(self, event: Mapping[str, Any], key: str) -> datetime:
        if pick(event, f"{key}.timeZone") not in ("UTC", None):
            raise ProtocolError(f"{key}: times were asked for in UTC and came in another zone")
        value = moment(
            str(pick(event, f"{key}.dateTime") or "").rstrip("Z") + "+00:00", "iso", self.settings.zone, field=key
        )
        return local_time(value, self.settings.zone)
