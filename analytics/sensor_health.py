"""How each sensor fares: last contact, coverage of its measuring hours, and the daily rest of its doors.

The rest of a day is how many more people a door counted in than out: everybody goes home, so it should be 0. It is a
figure of the sensor and not of the room, whose people are corrected for it (``analytics.domain.occupancy``).
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from weakref import WeakKeyDictionary
from zoneinfo import ZoneInfo

import numpy as np

from analytics.assemble import Site
from analytics.domain.model import HEALTH_BITS, SLOT_DTYPE, Room, Sensor, SlotArray, Watch, WatchKind
from analytics.domain.series import MinuteCounts, per_minute
from analytics.domain.time import BoolArray, Calendar, FloatArray, LocalGrid, date_of, day_bounds, local_grid, minute_of
from analytics.store.base import Store

DAYS = 7
SILENT_AFTER = timedelta(minutes=15)


class SensorState(StrEnum):
    """What a person should know first about a sensor."""

    NEW = "new"
    """Its code was not used yet."""
    WELL = "well"
    FAULTY = "faulty"
    """It speaks, and says that something is wrong with what it sees."""
    SILENT = "silent"
    """It should have spoken."""
    ASLEEP = "asleep"
    """Silent outside its measuring hours, as it should be."""
    REVOKED = "revoked"


@dataclass(frozen=True)
class DayRest:
    """One local day of a door: more people in than out (+) or out than in (-), and all who passed."""

    day: date
    rest: int
    traffic: int


@dataclass(frozen=True)
class SensorHealth:
    """One sensor now.

    Attributes:
        faults: words of ``HEALTH_BITS`` that its newest record holds, without ``ok``.
        last_contact: end of the newest record; None: it never sent one.
        coverage_today, coverage_week: share of the measuring hours so far that was analysed; NaN: there were none.
        rest: of a sensor at a door, day by day, oldest first, today left out.
    """

    sensor: Sensor
    state: SensorState
    rooms: tuple[Room, ...]
    faults: tuple[str, ...]
    last_contact: datetime | None
    coverage_today: float
    coverage_week: float
    rest: tuple[DayRest, ...]


def sensor_health(
    store: Store, site: Site, now: datetime, sensors: Sequence[Sensor] | None = None
) -> list[SensorHealth]:
    """All sensors of an organisation (or those given), by name and id.

    Days that are over are remembered for some minutes (`PAST_LIFE_S`): a page reads no more than today's counts.
    """
    chosen = site.sensors if sensors is None else sensors
    org_id = site.organisation.id
    zone = ZoneInfo(site.organisation.time_zone)
    today = now.astimezone(zone).date()
    ids = [sensor.id for sensor in chosen if sensor.enrolled_at is not None or sensor.revoked_at is None]
    day = _Days.of(site, zone, today, today)
    past = _past(store, site, chosen, ids, zone, today, now)
    slots = store.counts(org_id, ids, _moment(day.grid.start), now)
    quiet = [sensor_id for sensor_id in ids if not slots[sensor_id].size]
    latest = store.latest_counts(org_id, quiet) if quiet else {}
    over = np.arange(day.grid.start, day.grid.end) < minute_of(now)
    minute = min(max(minute_of(now) - day.grid.start, 0), day.grid.length - 1)
    found = []
    for sensor in chosen:
        rooms = _rooms(site, sensor, now)
        asked = day.asked(rooms)
        own = slots.get(sensor.id, _NONE)
        covered, wanted = _covered(_counts(own, day), asked & over)
        week = past.get(sensor.id, _NOTHING)
        newest = own[-1:] if own.size else latest.get(sensor.id, _NONE)
        contact, faults = _newest(newest)
        found.append(
            SensorHealth(
                sensor,
                _state(sensor, faults, contact, bool(asked[minute]), now),
                rooms,
                faults,
                contact,
                covered / wanted if wanted else math.nan,
                (covered + week.covered) / (wanted + week.wanted) if wanted + week.wanted else math.nan,
                week.rest,
            )
        )
    return sorted(found, key=lambda health: (health.sensor.name.casefold() or health.sensor.id, health.sensor.id))


PAST_LIFE_S = 600.0
"""How long the sums of days that are over may lag behind counts that arrive late. Of no two sensors is it the same."""


@dataclass(frozen=True)
class _Past:
    """Sums of one sensor over the days before today."""

    covered: float
    wanted: float
    rest: tuple[DayRest, ...]


_NOTHING = _Past(0.0, 0.0, ())
_Remembered = dict[tuple[str, str], tuple[float, date, tuple[Watch, ...], _Past]]
_memory: WeakKeyDictionary[Store, _Remembered] = WeakKeyDictionary()


def _past(
    store: Store, site: Site, sensors: Sequence[Sensor], ids: Sequence[str], zone: ZoneInfo, today: date, now: datetime
) -> dict[str, _Past]:
    """The days before today by sensor id, from memory where it is fresh."""
    memory = _memory.setdefault(store, {})
    org_id, clock = site.organisation.id, time.monotonic()
    found: dict[str, _Past] = {}
    missing: list[Sensor] = []
    wanted = set(ids)
    for sensor in sensors:
        kept = memory.get((org_id, sensor.id))
        if kept is not None and kept[0] > clock and kept[1:3] == (today, sensor.watches):
            found[sensor.id] = kept[3]
        elif sensor.id in wanted:
            missing.append(sensor)
    if missing:
        days = _Days.of(site, zone, today - timedelta(days=DAYS - 1), today - timedelta(days=1))
        start, end = _moment(days.grid.start), _moment(days.grid.end)
        slots = store.counts(org_id, [sensor.id for sensor in missing], start, end)
        for sensor in missing:
            counts = _counts(slots[sensor.id], days)
            door = any(watch.kind is WatchKind.DOOR for watch in sensor.watches)
            rest = _rest(counts.entered, counts.left, days) if counts is not None and door else ()
            found[sensor.id] = _Past(*_covered(counts, days.asked(_rooms(site, sensor, now))), rest)
            life = PAST_LIFE_S * (1 + zlib.crc32(sensor.id.encode()) % 100 / 100)  # not all at one moment
            memory[org_id, sensor.id] = (clock + life, today, sensor.watches, found[sensor.id])
    return found


@dataclass(frozen=True)
class _Days:
    """Whole local days, minute by minute, with the measuring hours of rooms on them."""

    site: Site
    grid: LocalGrid
    _open: dict[str, BoolArray]

    @classmethod
    def of(cls, site: Site, zone: ZoneInfo, first: date, last: date) -> _Days:
        start, end = day_bounds(first, zone, last)
        return cls(site, local_grid(zone, start, end - start), {})

    def asked(self, rooms: Sequence[Room]) -> BoolArray:
        """When a sensor of these rooms should measure; in no room yet: the usual hours."""
        masks = [self._of(room.id, self.site.calendar(room)) for room in rooms]
        if not masks:
            return self._of("", Calendar(self.grid.zone))
        together: BoolArray = np.logical_or.reduce(masks)
        return together

    def _of(self, room_id: str, calendar: Calendar) -> BoolArray:
        if room_id not in self._open:
            self._open[room_id] = calendar.open(self.grid)
        return self._open[room_id]


_NONE: SlotArray = np.zeros(0, dtype=SLOT_DTYPE)


def _counts(slots: SlotArray, days: _Days) -> MinuteCounts | None:
    return per_minute(slots, days.grid.start, days.grid.length) if slots.size else None


def _covered(counts: MinuteCounts | None, asked: BoolArray) -> tuple[float, float]:
    """Minutes that were analysed, and minutes that should have been."""
    return 0.0 if counts is None else float(counts.coverage[asked].sum()), float(asked.sum())


def _newest(slot: SlotArray) -> tuple[datetime | None, tuple[str, ...]]:
    """End and faults of the newest record."""
    if not slot.size:
        return None, ()
    contact = datetime.fromtimestamp(int(slot["start"][0]) + int(slot["seconds"][0]), UTC)
    bits = int(slot["health"][0])
    return contact, tuple(word for word, bit in HEALTH_BITS.items() if bits & bit and word != "ok")


def _rest(entered: FloatArray, left: FloatArray, days: _Days) -> tuple[DayRest, ...]:
    found = []
    for number in np.unique(days.grid.day).tolist():
        on = days.grid.day == number
        into, out = int(entered[on].sum()), int(left[on].sum())
        found.append(DayRest(date_of(int(number)), into - out, into + out))
    return tuple(found)


def _state(
    sensor: Sensor, faults: tuple[str, ...], contact: datetime | None, awake: bool, now: datetime
) -> SensorState:
    if sensor.revoked_at is not None:
        return SensorState.REVOKED
    if contact is None:
        return SensorState.NEW if sensor.enrolled_at is None else SensorState.SILENT
    if now - contact > SILENT_AFTER:
        return SensorState.SILENT if awake else SensorState.ASLEEP
    return SensorState.FAULTY if faults else SensorState.WELL


def _rooms(site: Site, sensor: Sensor, now: datetime) -> tuple[Room, ...]:
    ids = dict.fromkeys(w.room_id for w in sensor.watches if w.valid_until is None or w.valid_until > now)
    return tuple(site.rooms[room_id] for room_id in ids if room_id in site.rooms)


def _moment(minute: int) -> datetime:
    return datetime.fromtimestamp(minute * 60, UTC)
