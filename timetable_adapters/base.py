"""The booking contract: what every scheduling system is brought down to, and how an adapter may fail.

An adapter reads rooms and bookings from one scheduling system. It returns everything that it was asked for or it
raises: a failed pull never looks like an empty timetable. Personal data stops here: what the customer's policy does
not allow is dropped before a ``Booking`` exists.
"""

from __future__ import annotations

import re
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, ClassVar, Generic, Self, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from .errors import AdapterError, ConfigurationError, ProtocolError, TemporaryError
from .http import Auth, HttpClient, Limits

MAX_TITLE = 500

__all__ = [
    "Adapter",
    "AdapterError",
    "AdapterSettings",
    "Booking",
    "BookingStatus",
    "CheckResult",
    "ConfigurationError",
    "PrivacyPolicy",
    "ProtocolError",
    "RoomRef",
    "TemporaryError",
]


class BookingStatus(StrEnum):
    """What the scheduling system says about a booking."""

    PLANNED = "planned"
    TENTATIVE = "tentative"
    CANCELLED = "cancelled"
    MOVED = "moved"


class Booking(BaseModel):
    """One planned use of one room.

    (``source``, ``source_id``) names the booking; ``version`` changes whenever its content does. ``room_ref`` is what
    the scheduling system calls the room, not yet a room of the master data. Times are UTC, half-open.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(min_length=1, max_length=64)
    source_id: str = Field(min_length=1, max_length=512)
    version: str = Field(default="", max_length=128)
    room_ref: str = Field(min_length=1, max_length=256)
    building: str = Field(default="", max_length=256)
    title: str = Field(default="", max_length=MAX_TITLE)
    start: AwareDatetime
    end: AwareDatetime
    status: BookingStatus = BookingStatus.PLANNED
    expected_size: int | None = Field(default=None, ge=0, le=1_000_000)
    booked_by: str | None = Field(default=None, max_length=256, repr=False)
    category: str = Field(default="", max_length=128)
    series: str = Field(default="", max_length=256, description="Same for all bookings of one recurring event.")

    @field_validator("start", "end")
    @classmethod
    def _utc(cls, value: datetime) -> datetime:
        return value.astimezone(UTC)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end < self.start:
            raise ValueError(f"end {self.end.isoformat()} lies before start {self.start.isoformat()}")
        return self


class RoomRef(BaseModel):
    """A room as the scheduling system knows it, for matching with the master data."""

    model_config = ConfigDict(frozen=True)

    ref: str
    name: str = ""
    building: str = ""
    capacity: int | None = None


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What ``check`` found: how many rooms the token may see, and remarks worth showing to the person who set it up."""

    rooms: int
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PrivacyPolicy:
    """What of a booking may pass.

    Attributes:
        booker_names: keep who booked. Off by default: dropped inside the adapter.
        titles: keep event names. A title that holds the name of a person the same record names is dropped, also where
            names are kept: they are sealed and shown to few, titles to many.
    """

    booker_names: bool = False
    titles: bool = True

    def title(self, title: str, people: Iterable[str | None] = ()) -> str:
        """The title that may pass; ``people`` are the personal names and addresses which the record holds.

        Room mailboxes of Exchange replace the subject by the organiser's name unless told otherwise, so a title can
        be personal data although the field is not.
        """
        if not self.titles:
            return ""
        text = " ".join(title.split())[:MAX_TITLE]
        if any(_names(person, text) for person in people if person):
            return ""
        return text

    def booker(self, name: str | None) -> str | None:
        """The booker's name where the policy allows it, else None."""
        return (name or None) if self.booker_names else None


def _names(person: str, text: str) -> bool:
    """Whether ``text`` holds the person: the whole name, the mail address, or any longer part of either."""
    folded = text.casefold()
    local = person.split("@")[0]
    parts = {person, local, *re.split(r"[\s,.;_@<>()-]+", local)}
    words = set(re.split(r"[^\w]+", folded))
    return any(
        part.casefold() in folded if " " in part.strip() or "@" in part else part.casefold() in words
        for part in parts
        if len(part.strip()) > 3
    )


class AdapterSettings(BaseModel):
    """Settings that every source has. Secrets are ``SecretStr`` fields: they never show in a repr, log or error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    time_zone: str = Field("Europe/Amsterdam", title="Time zone", description="Zone of times that name none.")
    building: str = Field("", title="Building", description="Building for rooms of which the system names none.")

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError("unknown time zone; use a name such as Europe/Amsterdam") from error
        return value

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.time_zone)


SettingsT = TypeVar("SettingsT", bound=AdapterSettings)


class Adapter(ABC, Generic[SettingsT]):
    """One scheduling system.

    Args:
        source: the customer's name for this source; part of every booking's key.
        settings: an instance of ``Settings``.
        policy: what personal data may pass.
        sleep: waits between tries; tests inject one that does not.
        limits: time-outs and bounds of the requests.
    """

    name: ClassVar[str]
    """Name in entry points and settings, such as ``mytimetable``."""
    title: ClassVar[str]
    """Name for people."""
    Settings: ClassVar[type[AdapterSettings]]

    def __init__(
        self,
        source: str,
        settings: SettingsT,
        policy: PrivacyPolicy | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        limits: Limits | None = None,
    ) -> None:
        self.source = source
        self.settings = settings
        self.policy = policy or PrivacyPolicy()
        self._sleep = sleep
        self._limits = limits
        self.open()

    def open(self) -> None:
        """Build the clients; called once, sends nothing."""

    def client(
        self,
        base_url: str,
        auth: Auth | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        secret_path: bool = False,
    ) -> HttpClient:
        """A client for one address of this system, with the adapter's patience."""
        return HttpClient(
            base_url, auth, headers=headers, secret_path=secret_path, limits=self._limits, sleep=self._sleep
        )

    @classmethod
    def from_mapping(
        cls, source: str, values: Mapping[str, object], policy: PrivacyPolicy | None = None, **patience: Any
    ) -> Self:
        """Build the adapter from untyped settings; a wrong one raises ``ConfigurationError`` naming the field."""
        try:
            settings = cls.Settings.model_validate(values)
        except ValidationError as error:
            # Never the value: it may be the token that was pasted into the wrong field.
            faults = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}" for e in error.errors())
            raise ConfigurationError(f"{cls.name}: {faults}") from None
        return cls(source, settings, policy, **patience)  # type: ignore[arg-type]

    @abstractmethod
    def rooms(self) -> list[RoomRef]:
        """All rooms that the system shows to this token."""

    @abstractmethod
    def fetch(self, rooms: Sequence[str], start: datetime, end: datetime) -> list[Booking]:
        """All bookings of ``rooms`` (their refs; empty = every room) that overlap ``[start, end)``.

        Cancelled ones are returned with that status where the system still shows them.

        Raises:
            AdapterError: nothing at all is returned when a part could not be had.
        """

    def check(self) -> CheckResult:
        """Prove address, token and rights with the smallest request there is."""
        rooms = self.rooms()
        remarks = () if rooms else ("The system answered, but shows no rooms to this token.",)
        return CheckResult(rooms=len(rooms), remarks=remarks)

    def booking(
        self,
        *,
        source_id: object,
        room_ref: object,
        title: object,
        start: datetime,
        end: datetime,
        version: object = "",
        building: object = "",
        status: BookingStatus = BookingStatus.PLANNED,
        expected_size: object = None,
        booked_by: str | None = None,
        category: object = "",
        series: object = "",
        people: Iterable[str | None] = (),
    ) -> Booking:
        """The one place where a booking comes into being: applies the policy and bounds what comes from outside.

        Raises:
            ProtocolError: a value does not fit. The message names the field, never the value.
        """
        try:
            return Booking(
                source=self.source,
                # One reservation may hold several rooms; each is a booking of its own.
                source_id=f"{source_id}@{room_ref}",
                version=str(version or "")[:128],
                room_ref=str(room_ref)[:256],
                building=str(building or self.settings.building)[:256],
                title=self.policy.title(str(title or ""), (booked_by, *people)),
                start=start,
                end=end,
                status=status,
                expected_size=whole_number(expected_size),
                booked_by=self.policy.booker(booked_by),
                category=str(category or "")[:128],
                series=str(series or "")[:256],
            )
        except ValidationError as error:
            fields = ", ".join(sorted({".".join(map(str, e["loc"])) or e["msg"] for e in error.errors()}))
            raise ProtocolError(f"{self.source}: a booking does not fit the contract ({fields})") from None


def whole_number(value: object) -> int | None:
    """A count that systems write as ``50``, ``"50"``, ``50.0``, ``""`` or null; None where it says nothing."""
    if value is None or value == "" or isinstance(value, bool):
        return None
    try:
        number = int(float(str(value).strip().replace(",", ".")))
    except (ValueError, OverflowError):
        return None
    return number if 0 <= number <= 1_000_000 else None


def overlaps(start: datetime, end: datetime, window_start: datetime, window_end: datetime) -> bool:
    """Whether ``[start, end)`` touches ``[window_start, window_end)``; a zero-length booking counts at its moment."""
    if start == end:
        return window_start <= start < window_end
    return start < window_end and end > window_start


def local_time(value: datetime, zone: ZoneInfo) -> datetime:
    """UTC for a wall-clock time that may be naive (then in ``zone``).

    A time in the gap of a spring night is moved on by the gap; of a doubled hour in autumn the first is meant.
    """
    aware = value if value.tzinfo is not None else value.replace(tzinfo=zone)
    return aware.astimezone(UTC)


def iso_time(text: object, zone: ZoneInfo, *, field: str) -> datetime:
    """UTC from ISO 8601 with or without an offset, a space or a T, and any number of fractional digits.

    Raises:
        ProtocolError: not a time; names the field.
    """
    raw = str(text or "").strip()
    raw = re.sub(r"(\.\d{6})\d+", r"\1", raw)  # Microsoft writes seven digits
    try:
        return local_time(datetime.fromisoformat(raw), zone)
    except ValueError as error:
        raise ProtocolError(f"{field} is not an ISO 8601 time") from error


def days_between(start: datetime, end: datetime, zone: ZoneInfo) -> tuple[date, date]:
    """First and last local date that ``[start, end)`` touches."""
    last = end.astimezone(zone)
    if last > start.astimezone(zone):
        last = datetime.fromtimestamp(end.timestamp() - 1e-6, zone)
    return start.astimezone(zone).date(), last.date()
