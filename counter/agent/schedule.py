"""Measuring hours: when a sensor may look. Outside them the camera is closed.

A moment is open when the wall clock of the site shows a time inside a window of the day it shows. That alone is right
over both changes of summer time, and after the clock was set: nothing is remembered between two questions.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, field_validator, model_validator

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WINDOW = re.compile(r"(\d{2}):(\d{2})-(\d{2}):(\d{2})")
_AHEAD_DAYS = 400


def _window(value: Any) -> tuple[int, int]:
    """``"07:00-22:00"`` as minutes of the day, half open."""
    if isinstance(value, tuple):
        return value
    found = _WINDOW.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise ValueError('expected "HH:MM-HH:MM", e.g. "07:00-22:00"')
    begin, end = int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])
    if int(found[2]) > 59 or int(found[4]) > 59 or end > 24 * 60:
        raise ValueError("expected times from 00:00 to 24:00")
    if begin >= end:
        raise ValueError("ends before it begins; over midnight write two: until 24:00, and from 00:00 the day after")
    return begin, end


def window_text(window: tuple[int, int]) -> str:
    """``(420, 1320)`` as ``"07:00-22:00"``."""
    begin, end = window
    return f"{begin // 60:02d}:{begin % 60:02d}-{end // 60:02d}:{end % 60:02d}"


Window = Annotated[tuple[int, int], BeforeValidator(_window), PlainSerializer(window_text, when_used="json")]


def _in_order(windows: tuple[tuple[int, int], ...]) -> tuple[tuple[int, int], ...]:
    ordered = tuple(sorted(windows))
    for (begin, end), (later, _) in pairwise(ordered):
        if later < end:
            raise ValueError(
                f"{window_text((begin, end))} overlaps the window that begins at {window_text((later, later))[:5]}"
            )
    return ordered


class HoursException(BaseModel):
    """Other hours on a date, or on all dates of a period."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    first: date = Field(title="First date", description="Date of the site, e.g. 2026-12-24.")
    last: date | None = Field(None, title="Last date", description="Inclusive; left out: the first date alone.")
    windows: tuple[Window, ...] = Field((), max_length=24, title="Windows", description="Empty: closed all day.")

    _ordered = field_validator("windows")(_in_order)

    @model_validator(mode="after")
    def _forward(self) -> Self:
        if self.last is not None and self.last < self.first:
            raise ValueError(f"last {self.last} lies before first {self.first}")
        return self

    def covers(self, day: date) -> bool:
        """Whether this is about ``day``."""
        return self.first <= day <= (self.last or self.first)


_WORKDAY: tuple[tuple[int, int], ...] = ((7 * 60, 22 * 60),)


class Hours(BaseModel):
    """When to measure, in the site's own time."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    zone: str = Field("Europe/Amsterdam", title="Time zone", description="IANA name of the site's time zone.")
    mon: tuple[Window, ...] = Field(_WORKDAY, max_length=24, title="Monday", description='E.g. ["07:00-22:00"].')
    tue: tuple[Window, ...] = Field(_WORKDAY, max_length=24, title="Tuesday")
    wed: tuple[Window, ...] = Field(_WORKDAY, max_length=24, title="Wednesday")
    thu: tuple[Window, ...] = Field(_WORKDAY, max_length=24, title="Thursday")
    fri: tuple[Window, ...] = Field(_WORKDAY, max_length=24, title="Friday")
    sat: tuple[Window, ...] = Field((), max_length=24, title="Saturday")
    sun: tuple[Window, ...] = Field((), max_length=24, title="Sunday")
    exceptions: tuple[HoursException, ...] = Field(
        (), max_length=500, title="Exceptions", description="By date; of several for one date the last holds."
    )

    _ordered = field_validator(*DAYS)(_in_order)

    @field_validator("zone")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            zones = sorted(available_timezones())
            near = [zone for zone in zones if value.split("/")[-1].lower() in zone.lower()][:3]
            near = near or difflib.get_close_matches(value, zones, n=2)
            hint = f"; did you mean {' or '.join(near)}?" if near and value else ""
            raise ValueError(f"no such time zone{hint}") from None
        return value

    def windows(self, day: date) -> tuple[tuple[int, int], ...]:
        """The windows of a date, minutes of the day, half open."""
        for exception in reversed(self.exceptions):
            if exception.covers(day):
                return exception.windows
        windows: tuple[tuple[int, int], ...] = getattr(self, DAYS[day.weekday()])
        return windows


class Schedule:
    """Answers whether a moment is inside the measuring hours."""

    def __init__(self, hours: Hours) -> None:
        self.hours = hours
        self.zone = ZoneInfo(hours.zone)

    def is_open(self, utc: float) -> bool:
        """Whether the camera may look at this moment.

        Args:
            utc: seconds since 1970.
        """
        local = datetime.fromtimestamp(utc, self.zone)
        minute = local.hour * 60 + local.minute
        return any(begin <= minute < end for begin, end in self.hours.windows(local.date()))

    def touches(self, start: float, seconds: float) -> bool:
        """Whether any moment of ``[start, start + seconds)`` may be open: its ends and each minute between."""
        at = start
        while at < start + seconds:
            if self.is_open(at):
                return True
            at += 60.0
        return self.is_open(start + seconds - 1e-3)

    def next_change(self, utc: float) -> float | None:
        """When the hours open or close next, to the second; None when they do not within 400 days."""
        now_open = self.is_open(utc)
        before = utc
        for moment in self._boundaries(utc):
            if moment <= before:
                continue
            if self.is_open(moment) != now_open:
                return self._first(before, moment, now_open)
            before = moment
        return None

    def _boundaries(self, utc: float) -> Iterable[float]:
        """Begin and end of every window from today on, in order. Times that a change of summer time skips are near."""
        today = datetime.fromtimestamp(utc, self.zone).date()
        for ahead in range(-1, _AHEAD_DAYS):
            day = today + timedelta(days=ahead)
            moments: set[float] = set()
            for minute in {0, *(m for window in self.hours.windows(day) for m in window)}:
                wall = datetime.combine(day, time()) + timedelta(minutes=minute)
                moments |= {wall.replace(tzinfo=self.zone, fold=fold).astimezone(UTC).timestamp() for fold in (0, 1)}
            yield from sorted(moments)

    def _first(self, before: float, after: float, state: bool) -> float:
        low, high = int(before), int(after)
        while high - low > 1:
            middle = (low + high) // 2
            if self.is_open(middle) == state:
                low = middle
            else:
                high = middle
        return float(high)
