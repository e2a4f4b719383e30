"""iCalendar feeds (RFC 5545), recurrences included.

Parsing and recurrences come from ``icalendar`` and ``recurring-ical-events``; what is ours is which events count.
A feed's address is often its only protection: it is a secret and never appears in a log or an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime, time, timedelta
from typing import Any, ClassVar
from zoneinfo import ZoneInfo

import icalendar
import recurring_ical_events
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
)

STATUS = {"CANCELLED": BookingStatus.CANCELLED, "TENTATIVE": BookingStatus.TENTATIVE}


class ICalSettings(AdapterSettings):
    """One feed per room, or feeds whose events name the room in LOCATION."""

    feeds: dict[str, SecretStr] = Field(
        title="Feeds",
        min_length=1,
        description="Room to address. A name that begins with * is a feed of several rooms: LOCATION names them.",
    )
    location_separator: str = Field(
        "",
        title="Separator in LOCATION",
        description="Set it, for example to a comma, when LOCATION lists several rooms.",
    )
    all_day_counts: bool = Field(False, title="All-day events count", description="As a use from midnight to midnight.")


class ICalAdapter(Adapter[ICalSettings]):
    """Bookings from calendar feeds."""

    name: ClassVar[str] = "ical"
    title: ClassVar[str] = "iCalendar feed"
    Settings: ClassVar[type[AdapterSettings]] = ICalSettings

    def open(self) -> None:
        settings = self.settings
        self._clients = {
            room: self.client(url.get_secret_value(), secret_path=True) for room, url in settings.feeds.items()
        }

    def rooms(self) -> list[RoomRef]:
        found = {room for room in self._clients if not room.startswith("*")}
        for feed in (room for room in self._clients if room.startswith("*")):
            for event in self._calendar(feed).walk("VEVENT"):
                found.update(self._places(event))
        return [RoomRef(ref=ref, name=ref) for ref in sorted(found)]

    def fetch(self, rooms: Sequence[str], start: datetime, end: datetime) -> list[Booking]:
        wanted = set(rooms)
        feeds = [feed for feed in self._clients if feed.startswith("*") or not wanted or feed in wanted]
        found: list[Booking] = []
        for feed in feeds:
            bookings = self._events(feed, start, end)
            found.extend(booking for booking in bookings if not wanted or booking.room_ref in wanted)
        return found

    def _calendar(self, feed: str) -> icalendar.Calendar:
        client = self._clients[feed]
        text = client.get_text(client.base_url)
        # A cut feed still parses up to the cut: its end must be there.
        if not text.lstrip().startswith("BEGIN:VCALENDAR") or not text.rstrip().endswith("END:VCALENDAR"):
            raise ProtocolError(f"feed of {feed!r}: the answer is not a whole calendar")
        try:
            return icalendar.Calendar.from_ical(text)
        except (ValueError, IndexError, KeyError) as error:
            raise ProtocolError(f"feed of {feed!r}: not a valid calendar ({type(error).__name__})") from None

    def _events(self, feed: str, start: datetime, end: datetime) -> Iterator[Booking]:
        calendar = self._calendar(feed)
        zone = self._zone(calendar)
        # A day on each side: floating times and all-day events move with the zone.
        day = timedelta(days=1)
        try:
            events = list(recurring_ical_events.of(calendar).between(start - day, end + day))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ProtocolError(f"feed of {feed!r}: its recurrences cannot be read ({type(error).__name__})") from None
        for event in events:
            if str(event.get("TRANSP", "")).upper() == "TRANSPARENT":
                continue
            times = self._times(event, zone)
            if times is None or not overlaps(*times, start, end):
                continue
            uid = str(event.get("UID") or "")
            for place in self._places(event) if feed.startswith("*") else [feed]:
                yield self._booking(event, uid, place, *times)

    def _booking(self, event: Mapping[str, Any], uid: str, place: str, start: datetime, end: datetime) -> Booking:
        people = list(_people(event))
        original = event.get("RECURRENCE-ID")
        occurrence = local_time(_moment(original.dt), self.settings.zone) if original is not None else start
        return self.booking(
            source_id=f"{uid}|{occurrence.isoformat()}",
            version=f"{event.get('SEQUENCE', 0)}|{_stamp(event)}",
            room_ref=place,
            title=event.get("SUMMARY", ""),
            start=start,
            end=end,
            status=STATUS.get(str(event.get("STATUS", "")).upper(), BookingStatus.PLANNED),
            booked_by=people[0] if people else None,
            category=_first_category(event),
            people=people,
            series=uid if "RECURRENCE-ID" in event or "RRULE" in event else "",
        )

    def _times(self, event: Mapping[str, Any], zone: ZoneInfo) -> tuple[datetime, datetime] | None:
        begin = event["DTSTART"].dt
        whole_day = not isinstance(begin, datetime)
        if whole_day and not self.settings.all_day_counts:
            return None
        finish = event["DTEND"].dt if "DTEND" in event else begin + timedelta(days=1 if whole_day else 0)
        return local_time(_moment(begin), zone), local_time(_moment(finish), zone)

    def _zone(self, calendar: icalendar.Calendar) -> ZoneInfo:
        """Zone of floating times: the calendar's own (X-WR-TIMEZONE, written by Google) or that of the settings."""
        named = str(calendar.get("X-WR-TIMEZONE", ""))
        try:
            return ZoneInfo(named) if named else self.settings.zone
        except (KeyError, ValueError):
            return self.settings.zone

    def _places(self, event: Mapping[str, Any]) -> list[str]:
        text = str(event.get("LOCATION", "")).strip()
        separator = self.settings.location_separator
        parts = text.split(separator) if separator else [text]
        return [part.strip() for part in parts if part.strip()]


def _moment(value: date | datetime) -> datetime:
    return value if isinstance(value, datetime) else datetime.combine(value, time())


def _people(event: Mapping[str, Any]) -> Iterator[str]:
    for key in ("ORGANIZER", "CONTACT", "ATTENDEE"):
        values = event.get(key, [])
        for value in values if isinstance(values, list) else [values]:
            common_name = str(getattr(value, "params", {}).get("CN", ""))
            if common_name:
                yield common_name
            yield re.sub(r"^mailto:", "", str(value), flags=re.IGNORECASE)


def _stamp(event: Mapping[str, Any]) -> str:
    for key in ("LAST-MODIFIED", "DTSTAMP"):
        if key in event:
            return str(event[key].dt.isoformat())
    return ""


def _first_category(event: Mapping[str, Any]) -> str:
    value = event.get("CATEGORIES")
    first = value[0] if isinstance(value, list) and value else value
    names = getattr(first, "cats", None)
    return str(names[0]) if names else ""
