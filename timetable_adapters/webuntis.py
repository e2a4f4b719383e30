"""WebUntis through its JSON-RPC interface.

Shapes: the public client ``python-webuntis`` (2025) and reports about it. Errors come with status 200; a session may
end at any moment; a window may not cross the border of a school year; times are integers of local time without a
leading zero. The session is always closed again: their number is bounded.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date, datetime
from typing import Any, ClassVar
from urllib.parse import quote

from pydantic import Field, SecretStr

from .base import (
    Adapter,
    AdapterError,
    AdapterSettings,
    Booking,
    BookingStatus,
    ConfigurationError,
    ProtocolError,
    RoomRef,
    days_between,
    overlaps,
)
from .mapping import compact_time, expect_list, expect_mapping, pick

ROOM = 4
SESSION_ENDED = -8520
NO_ALLOWED_DATE = (-7004, -8507)
ERRORS = {
    -8504: "user name or password is not right",
    -8509: "the user has no right to see the timetables of rooms",
    -32601: "this server does not offer the method",
    -7004: "the dates lie outside the school years that the server knows",
    -8507: "the dates lie outside the school years that the server knows",
}


class WebUntisSettings(AdapterSettings):
    """Server, school and login."""

    base_url: str = Field(title="Address", description="https://SERVER.webuntis.com")
    school: str = Field(title="School")
    user: str = Field(title="User name")
    password: SecretStr = Field(title="Password")


class _SessionEndedError(Exception):
    """The server forgot us."""


class WebUntisAdapter(Adapter[WebUntisSettings]):
    """Bookings from WebUntis; the number of the room names it."""

    name: ClassVar[str] = "webuntis"
    title: ClassVar[str] = "WebUntis"
    Settings: ClassVar[type[AdapterSettings]] = WebUntisSettings

    def open(self) -> None:
        settings = self.settings
        self.http = self.client(settings.base_url)
        self._ids = itertools.count(1)

    def rooms(self) -> list[RoomRef]:
        with self._session():
            return [
                RoomRef(
                    ref=str(room["id"]),
                    name=str(room.get("longName") or room.get("name") or ""),
                    building=str(room.get("building") or self.settings.building),
                )
                for room in expect_list(self._call("getRooms", {}), "rooms")
            ]

    def fetch(self, rooms: Sequence[str], start: datetime, end: datetime) -> list[Booking]:
        asked = list(rooms) or [room.ref for room in self.rooms()]
        found: list[Booking] = []
        with self._session():
            windows = self._windows(start, end)
            for room in asked:
                for first, last in windows:
                    found += self._timetable(room, first, last)
        return [booking for booking in found if overlaps(booking.start, booking.end, start, end)]

    def _windows(self, start: datetime, end: datetime) -> list[tuple[int, int]]:
        """The window as pairs of days, cut at the borders of the school years."""
        first, last = days_between(start, end, self.settings.zone)
        low, high = _number(first), _number(last)
        years = [
            (int(year["startDate"]), int(year["endDate"]))
            for year in expect_list(self._call("getSchoolyears", {}), "school years")
        ]
        if not years:
            return [(low, high)]
        return [(max(low, a), min(high, b)) for a, b in sorted(years) if max(low, a) <= min(high, b)]

    def _timetable(self, room: str, first: int, last: int) -> list[Booking]:
        options = {
            "element": {"id": int(room), "type": ROOM},
            "startDate": str(first),
            "endDate": str(last),
            "showLsText": True,
            "showStudentgroup": True,
            "subjectFields": ["name", "longname"],
            "klasseFields": ["name"],
        }
        periods = expect_list(self._call("getTimetable", {"options": options}), "periods")
        return [self._booking(expect_mapping(period, "a period"), room) for period in periods]

    def _booking(self, period: Mapping[str, Any], room: str) -> Booking:
        zone = self.settings.zone
        subjects = [str(item.get("longname") or item.get("name") or "") for item in period.get("su") or []]
        classes = [str(item.get("name") or "") for item in period.get("kl") or []]
        teachers = [str(item.get("longname") or item.get("name") or "") for item in period.get("te") or []]
        status = BookingStatus.CANCELLED if period.get("code") == "cancelled" else BookingStatus.PLANNED
        # A period that was moved into another room names the one that was planned.
        moved_away = any(
            str(item.get("orgid")) == room and str(item.get("id")) != room for item in period.get("ro") or []
        )
        return self.booking(
            source_id=period.get("id"),
            room_ref=room,
            title=" ".join(word for word in [*subjects, *classes] if word),
            start=compact_time(period.get("date"), period.get("startTime"), zone),
            end=compact_time(period.get("date"), period.get("endTime"), zone),
            status=BookingStatus.MOVED if moved_away and status is BookingStatus.PLANNED else status,
            booked_by=", ".join(name for name in teachers if name) or None,
            category=period.get("activityType"),
            people=teachers,
        )

    @contextmanager
    def _session(self) -> Iterator[None]:
        self._login()
        try:
            yield
        finally:
            with suppress(AdapterError, _SessionEndedError):
                self._rpc("logout", {})

    def _login(self) -> None:
        password = self.settings.password.get_secret_value()
        login = {"user": self.settings.user, "password": password, "client": "headroom"}
        # The cookie of the session is kept by the client.
        if not pick(self._rpc("authenticate", login), "sessionId"):
            raise ConfigurationError("the server gave no session; is the school's name right?")

    def _call(self, method: str, params: Mapping[str, Any]) -> Any:
        try:
            return self._rpc(method, params)
        except _SessionEndedError:
            self._login()
        try:
            return self._rpc(method, params)
        except _SessionEndedError:
            raise ConfigurationError(f"{method}: the server ends each session at once") from None

    def _rpc(self, method: str, params: Mapping[str, Any]) -> Any:
        number = str(next(self._ids))
        path = f"WebUntis/jsonrpc.do?school={quote(self.settings.school)}"
        body = {"id": number, "method": method, "params": params, "jsonrpc": "2.0"}
        answer = expect_mapping(self.http.post_json(path, body), "the answer")
        if str(answer.get("id")) != number:
            raise ProtocolError(f"{method}: the answer belongs to another request")
        if error := answer.get("error"):
            code = pick(error, "code")
            if code == SESSION_ENDED and method != "authenticate":
                raise _SessionEndedError
            hint = ERRORS.get(code)
            if hint:
                raise ConfigurationError(f"{method}: {hint} (code {code})")
            raise ProtocolError(f"{method}: the server answers with error {code}")
        if "result" not in answer:
            raise ProtocolError(f"{method}: the answer holds neither result nor error")
        return answer["result"]


def _number(day: date) -> int:
    return day.year * 10_000 + day.month * 100 + day.day
