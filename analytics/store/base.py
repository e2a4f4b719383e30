"""The store's contract: one Protocol in parts, two implementations (SQLite embedded, MongoDB), one contract suite.

Every call names its organisation; no query crosses organisations. The exceptions are those that find out *which*
organisation is meant (`find_sensor`, the enrolment codes) and those that belong to the installation (`organisations`,
leases). Calls are synchronous, safe from several threads, and durable when they return (SQLite: ``synchronous=FULL``;
MongoDB: acknowledged by the majority). Errors: `analytics.store.errors`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

from analytics.domain.model import (
    Building,
    CountConflict,
    CountOutcome,
    DayRollup,
    EnrolmentCode,
    Lease,
    Organisation,
    PlannedBooking,
    PullResult,
    RollupTable,
    Room,
    Sensor,
    SlotArray,
    StaleDay,
    StoredBooking,
)
from uplink.messages import CountRecord

# Codes in the array that `ingest_slots` returns.
OUTCOMES = (CountOutcome.NEW, CountOutcome.DUPLICATE, CountOutcome.CONFLICT)


class MasterStore(Protocol):
    """Organisations, buildings and rooms. ``put`` inserts or replaces."""

    def organisations(self) -> list[Organisation]: ...
    def organisation(self, org_id: str) -> Organisation:
        """Raises NotFoundError."""
        ...

    def put_organisation(self, organisation: Organisation) -> None: ...
    def buildings(self, org_id: str) -> list[Building]: ...
    def put_buildings(self, org_id: str, buildings: Iterable[Building]) -> None: ...
    def rooms(self, org_id: str, building_id: str | None = None) -> list[Room]: ...
    def room(self, org_id: str, room_id: str) -> Room:
        """Raises NotFoundError."""
        ...

    def put_rooms(self, org_id: str, rooms: Iterable[Room]) -> None:
        """Raises ValueError when a room names another organisation."""
        ...


class SensorStore(Protocol):
    """Sensors, their watches and their enrolment."""

    def find_sensor(self, sensor_id: str) -> Sensor | None:
        """By id alone, over all organisations: the first step of authenticating a sensor. None when unknown."""
        ...

    def sensors(self, org_id: str) -> list[Sensor]: ...
    def all_sensors(self) -> list[Sensor]:
        """Of every organisation, for the tunnel's peers and the choice of a free tunnel address."""
        ...

    def sensors_on_board(self, org_id: str, board_id: str) -> list[Sensor]:
        """The further cameras of a board, revoked ones too; without the sensor that holds the board."""
        ...

    def add_sensor(self, sensor: Sensor) -> None:
        """Raises AlreadyExistsError when the id, tunnel address or WireGuard key is taken, in whatever organisation."""
        ...

    def update_sensor(self, org_id: str, sensor_id: str, change: Callable[[Sensor], Sensor]) -> Sensor:
        """Read, change, write as one step: ``change`` is pure and may be called again when another writer was faster.

        Raises NotFoundError, AlreadyExistsError (address or key taken) and whatever ``change`` raises; then nothing is
        written.
        """
        ...

    def add_enrolment(self, code: EnrolmentCode) -> None:
        """Raises AlreadyExistsError when a code with this id exists."""
        ...

    def enrolments(self, org_id: str) -> list[EnrolmentCode]: ...
    def spend_enrolment_attempt(self, code_id: str, now: datetime) -> EnrolmentCode | None:
        """Take one attempt, durably, and return the code as it is then; None: unknown, spent, expired or activated.

        To be called before hashes are compared, so that a crash in between never gives an attempt back.
        """
        ...

    def activate_enrolment(self, code_id: str, now: datetime) -> bool:
        """Set ``activated_at`` once. True for the one caller that did; False: unknown, expired or already activated."""
        ...

    def remove_enrolments(self, org_id: str, sensor_id: str) -> int:
        """Withdraw all codes of a sensor, used or not. Returns how many."""
        ...


class CountStore(Protocol):
    """Counts, in one packed bucket a sensor and UTC day. The first value of a slot stays."""

    def ingest(self, org_id: str, records: Sequence[CountRecord], received_at: datetime) -> list[CountOutcome]:
        """Store records durably; one outcome each, in order. Replay-safe and order-free.

        Two records for one slot in the same call count as offered one after the other. Records of a sensor that is
        not the organisation's are the caller's mistake and are stored under ``org_id`` all the same, out of reach of
        the other organisation. Raises StoreUnavailableError; then some may be stored and all may be sent again.
        """
        ...

    def ingest_slots(
        self, org_id: str, slots: Mapping[str, SlotArray], received_at: datetime
    ) -> dict[str, npt.NDArray[np.uint8]]:
        """The same for whole arrays: sensor id to slots, shape (n,), SLOT_DTYPE. Returns indices into OUTCOMES."""
        ...

    def counts(self, org_id: str, sensor_ids: Collection[str], start: datetime, end: datetime) -> dict[str, SlotArray]:
        """The slots that overlap ``[start, end)``, sorted by start, for every sensor asked for (empty: no data).

        `analytics.domain.series.per_minute` turns them into minutes with NaN for missing.
        """
        ...

    def latest_counts(self, org_id: str, sensor_ids: Collection[str]) -> dict[str, SlotArray]:
        """The newest slot of each sensor, shape (0,) or (1,): who is silent?"""
        ...

    def conflicts(
        self, org_id: str, sensor_ids: Collection[str], start: datetime, end: datetime
    ) -> list[CountConflict]:
        """Conflicts on slots that begin in ``[start, end)``, sorted by sensor and start."""
        ...


class PlanStore(Protocol):
    """Bookings with their history."""

    def replace_bookings(
        self,
        org_id: str,
        source: str,
        window: tuple[datetime, datetime],
        bookings: Collection[PlannedBooking],
        recorded_at: datetime,
        room_refs: Collection[str] | None = None,
    ) -> PullResult:
        """Make ``bookings`` the whole plan of a source in a window: all of it or, on any error, nothing.

        A changed booking gets a new revision, one that vanished a tombstone, one that is the same nothing at all.
        Only bookings that overlap the window (and whose ``room_ref`` is in ``room_refs``, where given) can vanish.
        Room-days that changed become stale. Raises ValueError for a key twice or another source's booking and
        StaleWriteError when two pulls of one source met: one of them is stored, whole.
        """
        ...

    def bookings(
        self,
        org_id: str,
        room_ids: Collection[str] | None,
        start: datetime,
        end: datetime,
        as_of: datetime | None = None,
        *,
        reveal_names: bool = False,
    ) -> list[StoredBooking]:
        """The plan that overlaps ``[start, end)``, without tombstones, sorted by start, room, source and id.

        ``room_ids`` None: all, unmatched ones too. One without length overlaps when it begins in ``[start, end)``.
        ``as_of``: as it was known at that instant (default: now). ``booked_by`` is None unless ``reveal_names``.
        """
        ...

    def booking_history(self, org_id: str, source: str, source_id: str) -> list[StoredBooking]:
        """Every revision with its tombstones, oldest first, without names."""
        ...

    def revisions(
        self, org_id: str, room_ids: Collection[str] | None, start: datetime, end: datetime
    ) -> list[StoredBooking]:
        """All revisions and tombstones that overlap ``[start, end)``: for "the plan as known when it started"."""
        ...


class RollupStore(Protocol):
    """Day roll-ups and the list of what must be computed again."""

    def put_rollups(self, org_id: str, rollups: Collection[DayRollup]) -> None:
        """Insert or replace, each measure by its name; measures not named keep their value."""
        ...

    def rollups(
        self,
        org_id: str,
        room_ids: Sequence[str],
        start: date,
        end: date,
        definition: str,
        measures: Sequence[str],
    ) -> RollupTable:
        """Local days ``[start, end)`` of rooms as arrays. A measure nobody stored is NaN of shape (rooms, days, 24)."""
        ...

    def stale_days(self, org_id: str, limit: int = 10_000) -> list[StaleDay]: ...
    def mark_stale(self, org_id: str, room_days: Iterable[tuple[str, date]]) -> None:
        """Say that rooms' local days must be computed again (a capacity changed, a closure was added)."""
        ...

    def clear_stale(self, org_id: str, days: Collection[StaleDay]) -> None:
        """Those roll-ups are up to date with what `stale_days` showed; a day that changed since stays stale."""
        ...


class LeaseStore(Protocol):
    """One winner for scheduled work among processes that share a store.

    Expiry is judged by the callers' clocks: let a lease live much longer than they can differ.
    """

    def acquire_lease(self, name: str, holder: str, duration: timedelta, now: datetime) -> Lease | None:
        """The lease, or None while another holder's has not expired. The same holder renews, keeping its token."""
        ...

    def renew_lease(self, lease: Lease, duration: timedelta, now: datetime) -> Lease:
        """Raises StaleWriteError when it expired and went to somebody else."""
        ...

    def release_lease(self, lease: Lease) -> None:
        """Give it back; nothing happens when it is no longer ours."""
        ...


class RetentionStore(Protocol):
    """What the retention job calls, one class of data each. All return how many rows or documents went."""

    def expire_counts(self, org_id: str, before: date) -> int:
        """Buckets of UTC days before a date."""
        ...

    def expire_conflicts(self, org_id: str, before: datetime) -> int: ...
    def expire_rollups(self, org_id: str, before: date) -> int: ...
    def expire_bookings(self, org_id: str, before: datetime) -> int:
        """Every revision of bookings that ended before an instant."""
        ...

    def expire_revisions(self, org_id: str, before: datetime) -> int:
        """Superseded revisions and tombstones recorded before an instant; the present plan stays."""
        ...

    def forget_names(self, org_id: str, before: datetime) -> int:
        """Drop the bookers' names of bookings that ended before an instant; the bookings stay."""
        ...

    def expire_enrolments(self, org_id: str, before: datetime) -> int:
        """Enrolment codes that expired before an instant."""
        ...


class Store(MasterStore, SensorStore, CountStore, PlanStore, RollupStore, LeaseStore, RetentionStore, Protocol):
    """Everything the analytics needs kept. Accounts (users, sessions, grants, tokens, audit) are `AccountStore`'s."""

    def ping(self) -> None:
        """Raises StoreUnavailableError when the store cannot answer now."""
        ...

    def close(self) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
