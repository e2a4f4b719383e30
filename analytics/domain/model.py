"""What the service knows about: plain frozen values, no input or output.

Instants are timezone-aware UTC, half-open ``[start, end)``; calendar days are local dates of the building. Ids are
chosen by people or sources, unique inside one organisation (sensor ids: unique over all organisations).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
MINUTES_PER_DAY = 1440


# --- master data ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a local day in minutes after midnight, half-open: 07:00 to 22:00 is ``Span(420, 1320)``."""

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= MINUTES_PER_DAY:
            raise ValueError(f"a span of a day is 0 <= start < end <= 1440 minutes, got {self.start} to {self.end}")


@dataclass(frozen=True, slots=True)
class MeasuringHours:
    """When sensors measure: the spans of each weekday, Monday first, in local time. Default: Mon-Fri 07:00-22:00."""

    weekdays: tuple[tuple[Span, ...], ...] = ((Span(420, 1320),),) * 5 + ((),) * 2

    def __post_init__(self) -> None:
        if len(self.weekdays) != 7:
            raise ValueError(f"measuring hours name seven weekdays, got {len(self.weekdays)}")
        for spans in self.weekdays:
            if any(a.end > b.start for a, b in itertools.pairwise(spans)):
                raise ValueError("the spans of a day are sorted and do not overlap")

    def on(self, day: date) -> tuple[Span, ...]:
        """The spans of a local date; closures are not looked at here."""
        return self.weekdays[day.weekday()]


class ClosureKind(StrEnum):
    HOLIDAY = "holiday"
    CLOSURE = "closure"


@dataclass(frozen=True, slots=True)
class Closure:
    """Local days ``[start, end)`` on which a building or room is closed; figures leave them out and say so."""

    start: date
    end: date
    name: str = ""
    kind: ClosureKind = ClosureKind.CLOSURE

    def __post_init__(self) -> None:
        if self.end <= self.start:
            raise ValueError(f"closure {self.name!r} ends ({self.end}) before it begins ({self.start})")


@dataclass(frozen=True, slots=True)
class Period:
    """A named stretch of local days ``[start, end)``: a teaching week, an examination week, a term."""

    name: str
    start: date
    end: date
    kind: str = "teaching"


@dataclass(frozen=True, slots=True)
class Organisation:
    id: str
    name: str
    time_zone: str = "Europe/Amsterdam"
    language: str = "nl"
    periods: tuple[Period, ...] = ()


@dataclass(frozen=True, slots=True)
class Building:
    org_id: str
    id: str
    name: str
    time_zone: str = "Europe/Amsterdam"
    measuring_hours: MeasuringHours = field(default_factory=MeasuringHours)
    closures: tuple[Closure, ...] = ()


@dataclass(frozen=True, slots=True)
class Capacity:
    """Seats from a local date on; ``None`` where nobody knows: then fill and utilisation are unknown, not 0."""

    valid_from: date
    seats: int | None


@dataclass(frozen=True, slots=True)
class Room:
    """A room of a building.

    ``measuring_hours`` None means: as the building's. ``parts`` names the rooms that a combined room is made of (a
    hall with folding walls): a booking of the whole occupies every part. ``aliases`` are its names in scheduling
    systems, for matching bookings to rooms.
    """

    org_id: str
    id: str
    building_id: str
    number: str
    name: str = ""
    capacities: tuple[Capacity, ...] = ()
    room_class: str = ""
    floor: str = ""
    measuring_hours: MeasuringHours | None = None
    closures: tuple[Closure, ...] = ()
    parts: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    retired_on: date | None = None

    def capacity_on(self, day: date) -> int | None:
        """Seats on a local date; None where none is known for it."""
        known = [c for c in self.capacities if c.valid_from <= day]
        return max(known, key=lambda c: c.valid_from).seats if known else None


# --- sensors -------------------------------------------------------------------------------------------------------


class WatchKind(StrEnum):
    """What a sensor sees of a room."""

    ROOM = "room"  # the whole room: `present` is the room's count
    PART = "part"  # a part of the room: parts are disjoint and add up
    DOOR = "door"  # a door: `entered` minus `left` is integrated


@dataclass(frozen=True, slots=True)
class Watch:
    """What one sensor watches in one room, during ``[valid_from, valid_until)`` (None: unbounded).

    ``reversed`` (doors): the sensor's *in* is this room's *out*. A door between two rooms is two watches of one sensor.
    """

    room_id: str
    kind: WatchKind
    reversed: bool = False
    label: str = ""
    valid_from: datetime | None = None
    valid_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Sensor:
    """A sensor and its keys' public side. ``id`` is unique over all organisations (SENSOR_ID_PATTERN).

    ``tunnel_ip`` and ``wireguard_public_key`` are unique among all sensors. ``key_generation`` counts rotations of the
    sensor's key; ``previous_key_until`` is the end of the overlap in which the generation before it still works.

    ``board`` names the sensor on whose board this one is a further camera: it speaks through that one's tunnel and has
    neither address nor WireGuard key of its own, but its own id and its own key. None: it holds a board itself.
    """

    org_id: str
    id: str
    name: str = ""
    watches: tuple[Watch, ...] = ()
    key_generation: int = 1
    previous_key_until: datetime | None = None
    tunnel_ip: str | None = None
    wireguard_public_key: str | None = None
    created_at: datetime | None = None
    enrolled_at: datetime | None = None
    revoked_at: datetime | None = None
    last_seen_at: datetime | None = None
    board: str | None = None

    def __post_init__(self) -> None:
        if self.board is None:
            return
        if self.board == self.id:
            raise ValueError(f"sensor {self.id!r} cannot be a further camera of itself")
        if self.tunnel_ip is not None or self.wireguard_public_key is not None:
            raise ValueError(f"sensor {self.id!r} is a camera of board {self.board!r}: the tunnel is the board's")


@dataclass(frozen=True, slots=True)
class EnrolmentCode:
    """A one-time code for one sensor. The store sees hashes only.

    ``id`` is the public part of the code by which it is found; ``secret_hash`` the hash of its secret part;
    ``verification_hash`` that of the second code, delivered apart, where one is asked for. ``attempts_left`` is spent
    before anything is compared; ``activated_at`` is set once, by compare-and-set.
    """

    id: str
    org_id: str
    sensor_id: str
    secret_hash: str
    expires_at: datetime
    attempts_left: int
    created_at: datetime
    verification_hash: str | None = None
    activated_at: datetime | None = None


# --- counts --------------------------------------------------------------------------------------------------------

COVERAGE_SCALE = 10_000
NOT_OBSERVED = -1
# Count slots as an array, sorted by start. One row is one CountRecord: `start` in epoch seconds, `present` and
# `present_max` NOT_OBSERVED where nobody looked, `coverage` in 1/10 000, `health` the bit set of HEALTH_BITS.
SLOT_DTYPE = np.dtype(
    [
        ("start", "<i8"),
        ("seconds", "<u2"),
        ("present", "<i4"),
        ("present_max", "<i4"),
        ("entered", "<i4"),
        ("left", "<i4"),
        ("coverage", "<u2"),
        ("health", "u1"),
    ]
)
HEALTH_BITS: Mapping[str, int] = {"ok": 1, "dark": 2, "blocked": 4, "moved": 8, "no_signal": 16, "overloaded": 32}
SlotArray = npt.NDArray[np.void]


class CountOutcome(StrEnum):
    """What became of an offered record."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class CountConflict:
    """A record that was offered for a slot that already held another value; the first value stays.

    ``stored`` and ``offered`` are slots, shape (), dtype SLOT_DTYPE. ``times`` counts how often it was offered.
    """

    org_id: str
    sensor_id: str
    start: datetime
    stored: np.void
    offered: np.void
    first_seen_at: datetime
    last_seen_at: datetime
    times: int = 1


# --- the plan ------------------------------------------------------------------------------------------------------


class BookingStatus(StrEnum):
    PLANNED = "planned"
    TENTATIVE = "tentative"
    CANCELLED = "cancelled"
    MOVED = "moved"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedBooking:
    """A booking as its source tells it, matched to a room (``room_id`` None: it matched nothing).

    (``source``, ``source_id``) is the key inside an organisation: a source gives an event in several rooms one
    ``source_id`` a room. ``booked_by`` is None unless the customer's policy allows names; the store seals it.
    """

    source: str
    source_id: str
    start: datetime
    end: datetime
    room_id: str | None = None
    room_ref: str = ""
    building: str = ""
    title: str = ""
    status: BookingStatus = BookingStatus.PLANNED
    expected_size: int | None = None
    booked_by: str | None = None
    category: str = ""
    source_version: str = ""
    series: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBooking(PlannedBooking):
    """One revision of a booking. It was the plan during ``[recorded_at, superseded_at)``.

    ``deleted`` marks a tombstone: the source no longer has the booking; the other fields are the last known ones.
    """

    org_id: str
    revision: int
    recorded_at: datetime
    superseded_at: datetime | None = None
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class PullResult:
    """What one pull changed. A pull that changed nothing has only ``unchanged``."""

    new: int = 0
    changed: int = 0
    removed: int = 0
    unchanged: int = 0
    revived: int = 0


# --- roll-ups ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DayRollup:
    """The figures of one room on one local date under one definition version.

    ``measures`` maps a name (``measured_minutes``, ``in_use_minutes``, ``person_minutes`` ...) to its additive
    numerators or denominators, shape (k,): k = 24 for local hours, 96 for quarters, 1 for the day. NaN is unknown.
    An hour that occurs twice (end of summer time) holds both, one that does not occur holds 0.
    """

    room_id: str
    day: date
    definition: str
    measures: Mapping[str, FloatArray]


@dataclass(frozen=True, slots=True)
class RollupTable:
    """Day roll-ups of many rooms as arrays.

    ``measures`` maps a name to shape (rooms, days, k); NaN where there is no roll-up or the value is unknown. ``days``
    runs without gaps from the first to the last date asked for.
    """

    room_ids: tuple[str, ...]
    days: tuple[date, ...]
    definition: str
    measures: Mapping[str, FloatArray]


class StaleKind(StrEnum):
    SENSOR = "sensor"  # counts of a sensor arrived; `day` is a UTC day
    ROOM = "room"  # the plan or the master data of a room changed; `day` is a local day


@dataclass(frozen=True, slots=True)
class StaleDay:
    """A day whose roll-ups are older than its data. ``token`` names the change seen: cleared only if still the last."""

    kind: StaleKind
    id: str
    day: date
    token: int


# --- several machines ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to do one piece of scheduled work until ``expires_at``; ``token`` grows with every new holder."""

    name: str
    holder: str
    token: int
    expires_at: datetime
