"""How each sensor fares: last contact, coverage of its measuring hours, and the daily rest of its doors.

The rest of a day is how many more people a door counted in than out: everybody goes home, so it should be 0. It is a
figure of the sensor and not of the room, whose people are corrected for it (``analytics.domain.occupancy``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

import numpy as np

from analytics.assemble import Site
from analytics.domain.model import HEALTH_BITS, Room, Sensor, SlotArray, WatchKind
from analytics.domain.series import per_minute
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
    """All sensors of an organisation (or those given), by name and id."""
    chosen = site.sensors if sensors is None else sensors
    ids = [sensor.id for sensor in chosen if sensor.enrolled_at is not None or sensor.revoked_at is None]
    org_id = site.organisation.id
    week = _Week.before(now, ZoneInfo(site.organisation.time_zone))
    slots = store.counts(org_id, ids, _moment(week.grid.start), now)
    quiet = [sensor_id for sensor_id in ids if not slots[sensor_id].size]
    latest = store.latest_counts(org_id, quiet) if quiet else {}
    found = []
    open_by_room: dict[str, BoolArray] = {}
    for sensor in chosen:
        rooms = _rooms(site, sensor, now)
        asked = np.zeros(week.grid.length, dtype=np.bool_)
        for room in rooms:
            if room.id not in open_by_room:
                open_by_room[room.id] = site.calendar(room).open(week.grid)
            asked |= open_by_room[room.id]
        if not rooms:  # not put up anywhere yet: the usual hours
            asked = Calendar(week.zone).open(week.grid)
        own = slots.get(sensor.id, _NONE)
        found.append(_judge(sensor, rooms, own, latest.get(sensor.id, _NONE), asked, week, now))
    return sorted(found, key=lambda health: (health.sensor.name.casefold() or health.sensor.id, health.sensor.id))


@dataclass(frozen=True)
class _Week:
    """Whole local days up to and with today, minute by minute; ``past`` are the minutes that are over."""

    zone: ZoneInfo
    grid: LocalGrid
    today: date
    past: BoolArray

    @classmethod
    def before(cls, now: datetime, zone: ZoneInfo) -> _Week:
        today = now.astimezone(zone).date()
        start, end = day_bounds(today - timedelta(days=DAYS - 1), zone, today)
        past = np.arange(start, end) < minute_of(now)
        return cls(zone, local_grid(zone, start, end - start), today, past)


_NONE: SlotArray = np.zeros(0, dtype=[("start", "<i8"), ("seconds", "<u2"), ("health", "u1")])


def _judge(
    sensor: Sensor,
    rooms: tuple[Room, ...],
    slots: SlotArray,
    latest: SlotArray,
    asked: BoolArray,
    week: _Week,
    now: datetime,
) -> SensorHealth:
    newest = slots[-1:] if slots.size else latest
    contact = None
    faults: tuple[str, ...] = ()
    if newest.size:
        contact = datetime.fromtimestamp(int(newest["start"][0]) + int(newest["seconds"][0]), UTC)
        bits = int(newest["health"][0])
        faults = tuple(word for word, bit in HEALTH_BITS.items() if bits & bit and word != "ok")
    today = week.grid.day == week.grid.day[-1]
    coverage_today = coverage_week = math.nan
    rest: tuple[DayRest, ...] = ()
    should = asked & week.past
    counts = per_minute(slots, week.grid.start, week.grid.length) if slots.size else None
    share = counts.coverage if counts is not None else np.zeros(week.grid.length)
    if should.any():
        coverage_week = float(share[should].sum() / should.sum())
    if (should & today).any():
        coverage_today = float(share[should & today].sum() / (should & today).sum())
    if counts is not None and any(watch.kind is WatchKind.DOOR for watch in sensor.watches):
        rest = _rest(counts.entered, counts.left, week)
    awake = bool(asked[min(max(minute_of(now) - week.grid.start, 0), week.grid.length - 1)])
    return SensorHealth(
        sensor, _state(sensor, faults, contact, awake, now), rooms, faults, contact, coverage_today, coverage_week, rest
    )


def _rest(entered: FloatArray, left: FloatArray, week: _Week) -> tuple[DayRest, ...]:
    days = []
    for number in np.unique(week.grid.day)[:-1].tolist():
        on = week.grid.day == number
        into, out = int(entered[on].sum()), int(left[on].sum())
        days.append(DayRest(date_of(int(number)), into - out, into + out))
    return tuple(days)


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
