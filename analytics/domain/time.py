"""Time on a grid of minutes: UTC inside, local hours and days where people look.

A minute is named by its number since 1970-01-01T00:00Z. A grid is a run of minutes. Local calendar fields of every
minute are computed at once; a spring day has 1,380 minutes, an autumn day 1,500, and both stay additive.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

MINUTES_PER_DAY = 1440
_EPOCH = date(1970, 1, 1)


def minute_of(moment: datetime) -> int:
    """Number of the minute that holds an aware ``moment``.

    Raises:
        ValueError: ``moment`` has no zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"{moment.isoformat()} has no time zone")
    return int(moment.timestamp() // 60)


def moment_of(minute: int) -> datetime:
    """Begin of a minute as an aware UTC time."""
    return datetime.fromtimestamp(int(minute) * 60, UTC)


def day_number(day: date) -> int:
    """Days since 1970-01-01."""
    return (day - _EPOCH).days


def date_of(day: int) -> date:
    """Inverse of ``day_number``."""
    return _EPOCH + timedelta(days=int(day))


def day_bounds(day: date, zone: ZoneInfo, last: date | None = None) -> tuple[int, int]:
    """Minutes ``[start, end)`` of the local day ``day``, or of ``day`` to ``last`` inclusive."""
    after = (last or day) + timedelta(days=1)
    return (
        minute_of(datetime(day.year, day.month, day.day, tzinfo=zone)),
        minute_of(datetime(after.year, after.month, after.day, tzinfo=zone)),
    )


@dataclass(frozen=True)
class LocalGrid:
    """``length`` minutes from ``start`` with their local calendar fields, each an array of shape (length,).

    Attributes:
        day: local days since 1970-01-01, int32.
        minute: minute of the local day, int16, 0 to 1439.
    """

    zone: ZoneInfo
    start: int
    length: int
    day: npt.NDArray[np.int32] = field(repr=False)
    minute: npt.NDArray[np.int16] = field(repr=False)

    @property
    def end(self) -> int:
        return self.start + self.length

    @property
    def hour(self) -> npt.NDArray[np.int16]:
        return self.minute // np.int16(60)

    @property
    def weekday(self) -> npt.NDArray[np.int32]:
        """0 = Monday, as in ``datetime``."""
        return weekday_of(self.day)


def weekday_of(day: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
    """Weekday of local days since 1970-01-01 (a Thursday); 0 = Monday."""
    return (day + np.int32(3)) % np.int32(7)


@lru_cache(maxsize=32)
def local_grid(zone: ZoneInfo, start: int, length: int) -> LocalGrid:
    """The local calendar of ``length`` minutes from ``start``; cached, its arrays are read-only.

    Raises:
        ValueError: ``length`` is negative.
    """
    if length < 0:
        raise ValueError(f"a grid cannot have {length} minutes")
    local = np.arange(start, start + length, dtype=np.int64)
    for begin, end, offset in _offset_runs(zone, start, start + length):
        local[begin - start : end - start] += offset
    day = (local // MINUTES_PER_DAY).astype(np.int32)
    minute = (local % MINUTES_PER_DAY).astype(np.int16)
    day.flags.writeable = minute.flags.writeable = False
    return LocalGrid(zone, start, length, day, minute)


def _offset_runs(zone: ZoneInfo, start: int, end: int) -> list[tuple[int, int, int]]:
    """Runs ``(start, end, minutes from UTC)`` of equal offset; changes are found by bisection, day by day."""
    runs: list[tuple[int, int, int]] = []
    begin, offset = start, _offset(zone, start)
    at = start
    while at < end:
        following = min(at + MINUTES_PER_DAY, end)
        after = _offset(zone, following)
        if after != offset:
            low, high = at, following
            while high - low > 1:
                middle = (low + high) // 2
                if _offset(zone, middle) == offset:
                    low = middle
                else:
                    high = middle
            runs.append((begin, high, offset))
            begin, offset = high, _offset(zone, high)
            following = high
        at = following
    runs.append((begin, end, offset))
    return runs


def _offset(zone: ZoneInfo, minute: int) -> int:
    shift = moment_of(minute).astimezone(zone).utcoffset()
    assert shift is not None
    return int(shift.total_seconds()) // 60


Window = tuple[int, int]
"""Minutes of the local day, half-open; 1440 is the end of the day."""


@dataclass(frozen=True)
class Calendar:
    """When figures count: measuring hours a weekday, less closed days.

    Attributes:
        zone: the zone in which people look.
        hours: seven tuples of windows, Monday first. Default: Monday to Friday 07:00 to 22:00, 75 hours a week.
        closed: local days (since 1970-01-01) that are holidays or closures.
        periods: named runs of days such as teaching weeks: (label, first day, last day inclusive).
    """

    zone: ZoneInfo
    hours: tuple[tuple[Window, ...], ...] = (((420, 1320),),) * 5 + ((),) * 2
    closed: frozenset[int] = frozenset()
    periods: tuple[tuple[str, int, int], ...] = ()

    def __post_init__(self) -> None:
        if len(self.hours) != 7:
            raise ValueError(f"measuring hours need seven weekdays, Monday first; there are {len(self.hours)}")
        for weekday, windows in enumerate(self.hours):
            last = 0
            for begin, end in windows:
                if not last <= begin < end <= MINUTES_PER_DAY:
                    raise ValueError(f"measuring hours of weekday {weekday}: {begin}-{end} is out of order or range")
                last = end

    def open(self, grid: LocalGrid) -> BoolArray:
        """Which minutes of the grid count, shape (length,)."""
        table = np.zeros((7, MINUTES_PER_DAY), dtype=np.bool_)
        for weekday, windows in enumerate(self.hours):
            for begin, end in windows:
                table[weekday, begin:end] = True
        mask: BoolArray = table[grid.weekday, grid.minute]
        if self.closed:
            mask &= ~np.isin(grid.day, np.fromiter(self.closed, dtype=np.int32))
        return mask

    def with_closed(self, days: Iterable[int]) -> Calendar:
        """The same calendar with further closed days."""
        return Calendar(self.zone, self.hours, self.closed | frozenset(days), self.periods)

    def period_of(self, day: int) -> str:
        """Label of the period that holds a day; the first one wins; empty when none does."""
        return next((label for label, first, last in self.periods if first <= day <= last), "")


def runs(mask: BoolArray) -> tuple[IntArray, IntArray]:
    """Starts and ends (half-open) of the runs of True in a mask of shape (n,)."""
    edge = np.diff(mask.astype(np.int8), prepend=np.int8(0), append=np.int8(0))
    return np.flatnonzero(edge == 1), np.flatnonzero(edge == -1)


def fill_runs(length: int, starts: IntArray, ends: IntArray) -> BoolArray:
    """A mask that is True inside the given half-open runs; inverse of ``runs`` for disjoint ones."""
    edge = np.zeros(length + 1, dtype=np.int32)
    np.add.at(edge, starts, 1)
    np.add.at(edge, ends, -1)
    return np.cumsum(edge[:-1]) > 0
