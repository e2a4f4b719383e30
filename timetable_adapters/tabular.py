"""Mapped CSV and TSV: the export that every scheduling system can make.

Source of the format: RFC 4180 with the habits of spreadsheets (semicolons, byte order mark, local dates).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, SecretStr, model_validator

from .base import (
    Adapter,
    AdapterSettings,
    Booking,
    BookingStatus,
    ConfigurationError,
    ProtocolError,
    RoomRef,
    TemporaryError,
    iso_time,
    local_time,
    overlaps,
)
from .http import HeaderAuth, HttpClient, NoAuth

STATUS_WORDS = {
    "": BookingStatus.PLANNED,
    "planned": BookingStatus.PLANNED,
    "confirmed": BookingStatus.PLANNED,
    "bevestigd": BookingStatus.PLANNED,
    "tentative": BookingStatus.TENTATIVE,
    "option": BookingStatus.TENTATIVE,
    "optie": BookingStatus.TENTATIVE,
    "cancelled": BookingStatus.CANCELLED,
    "canceled": BookingStatus.CANCELLED,
    "geannuleerd": BookingStatus.CANCELLED,
    "moved": BookingStatus.MOVED,
    "verplaatst": BookingStatus.MOVED,
}
"""Words for a booking's status, in the languages of the product."""


class TabularSettings(AdapterSettings):
    """Where the table lies and which column means what."""

    location: str = Field(title="File or address", description="A path on the service's machine, or an https address.")
    token: SecretStr | None = Field(
        None, title="Token", description="Sent as 'Authorization: Bearer ...' to an address."
    )
    delimiter: Literal["auto", ",", ";", "\t"] = Field("auto", title="Separator")
    room: str = Field("room", title="Column of the room")
    start: str = Field("start", title="Column of the start")
    end: str = Field("end", title="Column of the end")
    day: str = Field("", title="Column of the date", description="Only when start and end hold times of day.")
    date_format: str = Field(
        "", title="Format", description="As in strptime, for example %d-%m-%Y %H:%M; empty = ISO 8601."
    )
    id: str = Field("", title="Column of the number", description="Empty: its room and start name a booking.")
    title: str = Field("", title="Column of the event's name")
    building_column: str = Field("", title="Column of the building")
    status: str = Field("", title="Column of the status")
    expected_size: str = Field("", title="Column of the expected size")
    booked_by: str = Field("", title="Column of the booker's name")
    category: str = Field("", title="Column of the kind of event")

    @model_validator(mode="after")
    def _format_fits(self) -> TabularSettings:
        if self.day and self.date_format and "%d" not in self.date_format and "%j" not in self.date_format:
            raise ValueError("date_format must hold the day when the date has a column of its own")
        return self


class TabularAdapter(Adapter[TabularSettings]):
    """Bookings from one table; a wrong row fails the whole pull and is named by its line."""

    name: ClassVar[str] = "csv"
    title: ClassVar[str] = "CSV or TSV table"
    Settings: ClassVar[type[AdapterSettings]] = TabularSettings

    def open(self) -> None:
        settings = self.settings
        self.http: HttpClient | None = None
        if "://" in settings.location:
            token = settings.token.get_secret_value() if settings.token else ""
            auth = HeaderAuth("Authorization", f"Bearer {token}") if token else NoAuth()
            self.http = self.client(settings.location, auth)

    def rooms(self) -> list[RoomRef]:
        seen = {booking.room_ref: booking.building for booking in self._bookings()}
        return [RoomRef(ref=ref, name=ref, building=building) for ref, building in sorted(seen.items())]

    def fetch(self, rooms: Sequence[str], start: datetime, end: datetime) -> list[Booking]:
        wanted = set(rooms)
        return [
            booking
            for booking in self._bookings()
            if (not wanted or booking.room_ref in wanted) and overlaps(booking.start, booking.end, start, end)
        ]

    def _text(self) -> str:
        if self.http is not None:
            return self.http.get_text(self.settings.location)
        path = Path(self.settings.location)
        try:
            raw = path.read_bytes()
        except FileNotFoundError:
            raise ConfigurationError(f"location: there is no file {path.name!r} at the given path") from None
        except OSError as error:
            raise TemporaryError(f"location: {path.name!r} cannot be read ({error.strerror})") from None
        try:
            return raw.decode("utf-8-sig")
        except UnicodeDecodeError:
            return raw.decode("cp1252", "replace")

    def _bookings(self) -> Iterator[Booking]:
        text = self._text()
        settings = self.settings
        first = text.partition("\n")[0]
        delimiter = settings.delimiter
        if delimiter == "auto":
            delimiter = max((";", "\t", ","), key=first.count)
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        columns = [column.strip() for column in reader.fieldnames or []]
        reader.fieldnames = columns
        for field in ("room", "start", "end", "day", "id", "title", "building_column", "status", "expected_size",
                      "booked_by", "category"):  # fmt: skip
            column = getattr(settings, field)
            if column and column not in columns:
                found = ", ".join(columns) or "none"
                raise ConfigurationError(f"{field}: there is no column {column!r}; the columns are: {found}")
        try:
            for row in reader:
                if any(row.values()):
                    yield self._row(row, reader.line_num)
        except csv.Error as error:
            raise ProtocolError(f"line {reader.line_num}: not a valid table ({error})") from None

    def _row(self, row: dict[str, str], line: int) -> Booking:
        settings = self.settings

        def cell(column: str) -> str:
            return (row.get(column) or "").strip() if column else ""

        if None in row:
            raise ProtocolError(f"line {line}: more cells than columns; is a separator inside an unquoted text?")
        if None in row.values():
            raise ProtocolError(f"line {line}: fewer cells than columns; is the file whole?")
        room = cell(settings.room)
        if not room:
            raise ProtocolError(f"line {line}: the column {settings.room!r} is empty")
        start, end = self._times(row, line)
        status = STATUS_WORDS.get(cell(settings.status).casefold())
        if status is None:
            known = ", ".join(word for word in STATUS_WORDS if word)
            raise ProtocolError(f"line {line}: unknown status in column {settings.status!r}; known are: {known}")
        try:
            return self.booking(
                source_id=cell(settings.id) or start.isoformat(),
                room_ref=room,
                building=cell(settings.building_column),
                title=cell(settings.title),
                start=start,
                end=end,
                status=status,
                expected_size=cell(settings.expected_size),
                booked_by=cell(settings.booked_by),
                category=cell(settings.category),
            )
        except ProtocolError as error:
            raise ProtocolError(f"line {line}: {error}") from None

    def _times(self, row: dict[str, str], line: int) -> tuple[datetime, datetime]:
        settings = self.settings
        values = []
        for column in (settings.start, settings.end):
            raw = (row.get(column) or "").strip()
            try:
                values.append(self._time((row.get(settings.day) or "").strip() if settings.day else "", raw))
            except (ValueError, ProtocolError):
                expected = settings.date_format or ("ISO date and time of day" if settings.day else "ISO 8601")
                raise ProtocolError(f"line {line}: column {column!r} is not a time in the form {expected}") from None
        start, end = values
        if settings.day and end < start:  # 22:00 to 01:00 of the next day
            end = _next_day(end, settings)
        return start, end

    def _time(self, day: str, raw: str) -> datetime:
        zone = self.settings.zone
        if day:
            on = _day(day, self.settings.date_format)
            hour, _, rest = raw.partition(":")
            at = time.fromisoformat(f"{int(hour):02d}:{rest or '00'}")
            return local_time(datetime.combine(on, at), zone)
        if self.settings.date_format:
            return local_time(datetime.strptime(raw, self.settings.date_format), zone)  # noqa: DTZ007
        return iso_time(raw, zone, field="time")


def _day(text: str, date_format: str) -> date:
    return datetime.strptime(text, date_format).date() if date_format else date.fromisoformat(text)  # noqa: DTZ007


def _next_day(value: datetime, settings: TabularSettings) -> datetime:
    local = value.astimezone(settings.zone)
    following = date.fromordinal(local.toordinal() + 1)
    return datetime.combine(following, local.timetz()).astimezone(UTC)
