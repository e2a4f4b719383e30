"""Pulling the timetable: rooms of a scheduling system to rooms of the master data, bookings into the plan.

A pull is all or nothing. Only rooms that the customer has in the master data are asked for: what nobody measures is
nobody's business, and scheduling systems ask for few requests.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from analytics.domain.model import BookingStatus, Building, PlannedBooking, PullResult, Room
from timetable_adapters.base import Adapter, Booking, PrivacyPolicy, RoomRef, TemporaryError
from timetable_adapters.discovery import load

DEFAULT_LOOK_BACK_DAYS = 7
DEFAULT_HORIZON_DAYS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class TimetableSource:
    """One scheduling system of one customer, as the store keeps it.

    ``settings`` are the adapter's and hold its token: the store seals them, and they are in no repr. ``room_map`` is
    what a person decided (the system's name of a room to a room's id) and goes before every guess.
    """

    org_id: str
    id: str
    kind: str
    settings: Mapping[str, Any] = field(repr=False)
    booker_names: bool = False
    titles: bool = True
    look_back_days: int = DEFAULT_LOOK_BACK_DAYS
    horizon_days: int = DEFAULT_HORIZON_DAYS
    every_hours: int = 24
    room_map: Mapping[str, str] = field(default_factory=dict)
    enabled: bool = True

    def adapter(self, **patience: Any) -> Adapter[Any]:
        """The adapter, ready to ask.

        Raises:
            ConfigurationError: unknown kind or settings that do not fit.
        """
        policy = PrivacyPolicy(booker_names=self.booker_names, titles=self.titles)
        return load(self.kind).from_mapping(self.id, dict(self.settings), policy, **patience)

    def window(self, now: datetime) -> tuple[datetime, datetime]:
        """Whole UTC days around ``now``: a week back (what was changed afterwards), two months ahead."""
        midnight = datetime.combine(now.astimezone(UTC).date(), time(), UTC)
        return midnight - timedelta(days=self.look_back_days), midnight + timedelta(days=self.horizon_days)


@dataclass(frozen=True, slots=True)
class RoomMatch:
    """Which room of the system is which of ours.

    Attributes:
        rooms: the system's name of a room to a room's id.
        unmatched: rooms of the system that fit none of ours.
        ambiguous: rooms of the system that fit several of ours, with those.
        not_found: rooms of ours that the system does not show.
    """

    rooms: Mapping[str, str]
    unmatched: tuple[RoomRef, ...] = ()
    ambiguous: tuple[tuple[RoomRef, tuple[str, ...]], ...] = ()
    not_found: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PullReport:
    """What one pull did, for the log, the command line and the portal."""

    source: str
    window: tuple[datetime, datetime]
    match: RoomMatch
    result: PullResult
    bookings: int
    without_length: int = 0


class PlanTarget(Protocol):
    """What a pull needs of the store."""

    def buildings(self, org_id: str) -> list[Building]: ...
    def rooms(self, org_id: str, building_id: str | None = None) -> list[Room]: ...
    def replace_bookings(
        self,
        org_id: str,
        source: str,
        window: tuple[datetime, datetime],
        bookings: Collection[PlannedBooking],
        recorded_at: datetime,
        room_refs: Collection[str] | None = None,
    ) -> PullResult: ...


def pull(store: PlanTarget, source: TimetableSource, now: datetime, **patience: Any) -> PullReport:
    """Read the plan of a source around ``now`` and make it the plan in the store.

    Raises:
        AdapterError: nothing was changed.
    """
    adapter = source.adapter(**patience)
    match = match_rooms(adapter.rooms(), store.rooms(source.org_id), store.buildings(source.org_id), source.room_map)
    window = source.window(now)
    found = adapter.fetch(sorted(match.rooms), *window) if match.rooms else []
    planned = [planned_booking(booking, match.rooms) for booking in found if booking.room_ref in match.rooms]
    result = store.replace_bookings(source.org_id, source.id, window, planned, now)
    without_length = sum(booking.start == booking.end for booking in planned)
    return PullReport(source.id, window, match, result, len(planned), without_length)


def planned_booking(booking: Booking, rooms: Mapping[str, str]) -> PlannedBooking:
    """The contract's booking as the store keeps it, in the room that its reference matched."""
    return PlannedBooking(
        source=booking.source,
        source_id=booking.source_id,
        start=booking.start,
        end=booking.end,
        room_id=rooms.get(booking.room_ref),
        room_ref=booking.room_ref,
        building=booking.building,
        title=booking.title,
        status=BookingStatus(booking.status.value),
        expected_size=booking.expected_size,
        booked_by=booking.booked_by,
        category=booking.category,
        source_version=booking.version,
        series=booking.series,
    )


def match_rooms(
    refs: Iterable[RoomRef],
    rooms: Sequence[Room],
    buildings: Sequence[Building],
    decided: Mapping[str, str] | None = None,
) -> RoomMatch:
    """Match by decision, then by alias, then by number or name; a building that both name must agree.

    Rooms that fit several of ours match none: a wrong match would put people into the wrong plan.
    """
    decided = decided or {}
    ids = {room.id for room in rooms}
    building_names = {b.id: {_folded(b.id), _folded(b.name)} for b in buildings}
    by_word: dict[str, set[str]] = defaultdict(set)
    by_alias: dict[str, set[str]] = defaultdict(set)
    building_of = {room.id: room.building_id for room in rooms}
    for room in rooms:
        for alias in room.aliases:
            by_alias[_folded(alias)].add(room.id)
        for word in (room.number, room.name, f"{room.building_id} {room.number}", room.id):
            if word:
                by_word[_folded(word)].add(room.id)
        for name in building_names.get(room.building_id, ()):
            by_word[_folded(f"{name} {room.number}")].add(room.id)
    matched: dict[str, str] = {}
    unmatched: list[RoomRef] = []
    ambiguous: list[tuple[RoomRef, tuple[str, ...]]] = []
    for ref in refs:
        if decided.get(ref.ref) in ids:
            matched[ref.ref] = decided[ref.ref]
            continue
        words = [_folded(ref.ref), _folded(ref.ref.partition("@")[0]), _folded(ref.name)]
        found: set[str] = set()
        for index in (by_alias, by_word):
            found = set().union(*(index.get(word, set()) for word in words if word))
            if found:
                break
        if len(found) > 1 and ref.building:
            there = {i for i in found if _folded(ref.building) in building_names.get(building_of[i], set())}
            found = there or found
        if len(found) == 1:
            matched[ref.ref] = found.pop()
        elif found:
            ambiguous.append((ref, tuple(sorted(found))))
        else:
            unmatched.append(ref)
    missing = tuple(sorted(ids - set(matched.values())))
    return RoomMatch(matched, tuple(unmatched), tuple(ambiguous), missing)


def _folded(text: str) -> str:
    """Letters and digits only, without case and accents: ``Zaal 1.02-A`` and ``zaal 1.02 a`` are one room.

    Dots between digits stay: 1.12 and 11.2 are different rooms.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().casefold()
    return re.sub(r"[^a-z0-9.]+|(?<!\d)\.|\.(?!\d)", "", plain)


def next_pull(
    source: TimetableSource, last: datetime | None, zone: ZoneInfo, failure: Exception | None = None
) -> datetime:
    """When the source is due again: at night, spread by its name so that not all customers ask at once.

    After a failure sooner: when the system said so, else within the hour.
    """
    if last is None:
        return datetime.min.replace(tzinfo=UTC)
    if failure is not None:
        wait = failure.retry_after if isinstance(failure, TemporaryError) and failure.retry_after else 3600.0
        return last + timedelta(seconds=max(wait, 300.0))
    if source.every_hours != 24:
        return last + timedelta(hours=source.every_hours)
    minute = sum(f"{source.org_id}/{source.id}".encode()) % 180  # between 02:00 and 05:00 local time
    local = last.astimezone(zone)
    due = datetime.combine(local.date(), time(2 + minute // 60, minute % 60), zone)
    return (due if due > local else due + timedelta(days=1)).astimezone(UTC)
