"""Google Calendar resource calendars through a service account.

Shapes: the public reference of Calendar API v3 (events.list with singleEvents) and of OAuth 2.0 for service accounts
(a JSON Web Token signed with RS256, RFC 7523). A page is the last one only when ``nextPageToken`` is absent, however
short it is.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from datetime import time as day_time
from typing import Any, ClassVar
from urllib.parse import quote

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from pydantic import Field, SecretStr

from .base import (
    Adapter,
    AdapterSettings,
    Booking,
    BookingStatus,
    ConfigurationError,
    ProtocolError,
    RoomRef,
    iso_time,
    local_time,
    overlaps,
)
from .http import TokenAuth
from .mapping import expect_list, expect_mapping, pick

SCOPE = "https://www.googleapis.com/auth/calendar.readonly"
STATUS = {"cancelled": BookingStatus.CANCELLED, "tentative": BookingStatus.TENTATIVE}


class GoogleSettings(AdapterSettings):
    """A service account that the room calendars are shared with."""

    service_account: SecretStr = Field(title="Key file of the service account", description="The JSON text itself.")
    calendars: dict[str, str] = Field(title="Calendars", min_length=1, description="Calendar address to room name.")
    base_url: str = Field("https://www.googleapis.com/calendar/v3", title="Address of the interface")
    token_url: str = Field("https://oauth2.googleapis.com", title="Address of the login")


class GoogleAdapter(Adapter[GoogleSettings]):
    """Bookings from resource calendars; the calendar's address names the room."""

    name: ClassVar[str] = "google-calendar"
    title: ClassVar[str] = "Google Calendar rooms"
    Settings: ClassVar[type[AdapterSettings]] = GoogleSettings

    def open(self) -> None:
        settings = self.settings
        self._email, self._key = _account(settings.service_account)
        self.login = self.client(settings.token_url)
        self.http = self.client(settings.base_url, TokenAuth(self._token))

    def rooms(self) -> list[RoomRef]:
        for calendar in self.settings.calendars:
            self.http.get_json(f"calendars/{quote(calendar, safe='@')}")  # 404 when it was not shared with us
        return [
            RoomRef(ref=calendar, name=name, building=self.settings.building)
            for calendar, name in self.settings.calendars.items()
        ]

    def fetch(self, rooms: Sequence[str], start: datetime, end: datetime) -> list[Booking]:
        def one(room: str) -> list[Booking]:
            return [
                self._booking(event, room)
                for event in self._events(room, start, end)
                # A cancelled exception of a series may come without times.
                if event.get("transparency") != "transparent" and event.get("start") and event.get("end")
            ]

        found = [booking for part in self.http.map(one, list(rooms or self.settings.calendars)) for booking in part]
        return [booking for booking in found if overlaps(booking.start, booking.end, start, end)]

    def _events(self, room: str, start: datetime, end: datetime) -> Iterator[Mapping[str, Any]]:
        query = {
            "singleEvents": "true",
            "showDeleted": "true",
            "timeMin": start.isoformat(),
            "timeMax": end.isoformat(),
            "maxResults": "2500",
        }
        seen: set[str] = set()
        while True:
            answer = expect_mapping(
                self.http.get_json(f"calendars/{quote(room, safe='@')}/events", query), "the answer"
            )
            for item in expect_list(answer.get("items"), "items"):
                yield expect_mapping(item, "an event")
            token = answer.get("nextPageToken")
            if not token:
                return
            if str(token) in seen:
                raise ProtocolError("the system names the same next page twice")
            seen.add(str(token))
            query = {**query, "pageToken": str(token)}

    def _booking(self, event: Mapping[str, Any], room: str) -> Booking:
        people = [pick(event, f"{who}.{what}") for who in ("organizer", "creator") for what in ("displayName", "email")]
        for attendee in event.get("attendees") or []:
            if not attendee.get("resource"):
                people += [attendee.get("displayName"), attendee.get("email")]
        people = [person for person in people if person and person != room]
        return self.booking(
            source_id=event.get("id"),
            version=event.get("etag") or event.get("updated"),
            room_ref=room,
            title=event.get("summary"),
            start=self._time(event, "start"),
            end=self._time(event, "end"),
            status=STATUS.get(str(event.get("status")), BookingStatus.PLANNED),
            booked_by=people[0] if people else None,
            series=event.get("recurringEventId"),
            people=people,
        )

    def _time(self, event: Mapping[str, Any], key: str) -> datetime:
        if value := pick(event, f"{key}.dateTime"):
            return iso_time(value, self.settings.zone, field=key)
        try:
            on = date.fromisoformat(str(pick(event, f"{key}.date")))
        except ValueError:
            raise ProtocolError(f"{key}: neither dateTime nor date") from None
        return local_time(datetime.combine(on, day_time()), self.settings.zone)

    def _token(self) -> str:
        now = int(time.time())
        audience = f"{self.settings.token_url.rstrip('/')}/token"
        claims = {"iss": self._email, "scope": SCOPE, "aud": audience, "iat": now, "exp": now + 3600}
        signed = f"{_base64({'alg': 'RS256', 'typ': 'JWT'})}.{_base64(claims)}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        assertion = f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"
        form = {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion}
        token = pick(self.login.json("POST", "token", form=form), "access_token")
        if not isinstance(token, str) or not token:
            raise ProtocolError("the login answered without an access_token")
        return token


def _account(secret: SecretStr) -> tuple[str, rsa.RSAPrivateKey]:
    try:
        values = json.loads(secret.get_secret_value())
        key = serialization.load_pem_private_key(values["private_key"].encode(), None)
        email = str(values["client_email"])
    except (ValueError, KeyError, TypeError, AttributeError):
        # The text holds a private key: no part of it may reach the message.
        raise ConfigurationError("service_account: not the JSON key file of a service account") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigurationError("service_account: the key in it is not an RSA key")
    return email, key


def _base64(value: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(value, separators=(",", ":")).encode()).rstrip(b"=").decode()
