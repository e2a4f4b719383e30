"""Bookings with their history in the embedded store. A pull is one transaction."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Any

from analytics.domain.model import Building, PlannedBooking, PullResult, Room, StoredBooking
from analytics.store import planning
from analytics.store.documents import day_number, from_json, from_ms, to_json, to_ms
from analytics.store.errors import StaleWriteError
from analytics.store.sqlite.part import Part, id_list

_ATTEMPTS = 3
_COLUMNS = "org, source, source_id, revision, recorded_at, superseded_at, deleted, sealed_name, doc"
_OVERLAP = "starts_at < ? AND (ends_at > ? OR (ends_at = starts_at AND starts_at >= ?))"


class PlanPart(Part):
    """`analytics.store.base.PlanStore`."""

    def replace_bookings(
        self,
        org_id: str,
        source: str,
        window: tuple[datetime, datetime],
        bookings: Collection[PlannedBooking],
        recorded_at: datetime,
        room_refs: Collection[str] | None = None,
    ) -> PullResult:
        pulled = planning.pulled_by_id(source, bookings)
        for _ in range(_ATTEMPTS):
            # Reading and comparing a whole plan takes seconds; counts must not wait for it, so only the changes are
            # written under the lock, if no other pull of this source came in between.
            with self.connections.read() as db:
                state = _state(db, org_id, source)
                live = self._live(db, org_id, source, window, list(pulled))
            change = planning.compare(live, pulled, window, room_refs)
            moment = max(to_ms(recorded_at), state[1])  # a clock set back must not turn history round
            pull, known_at = state[0] + 1, from_ms(moment)
            revisions = [planning.stored_from(booking, org_id, pull, known_at) for booking in change.add]
            revisions += [planning.tombstone(old, pull, known_at) for old in change.bury]
            rows = [self._row(revision) for revision in revisions]
            with self.connections.write() as db:
                if _state(db, org_id, source) != state:
                    continue
                _append(db, rows, moment)
                db.execute(
                    "INSERT INTO plan_sources (org, source, last_pull, recorded_at) VALUES (?, ?, ?, ?) "
                    "ON CONFLICT (org, source) DO UPDATE "
                    "SET last_pull = excluded.last_pull, recorded_at = excluded.recorded_at",
                    (org_id, source, pull, moment),
                )
                if change.touched:
                    rooms = {room.id: room for room in _all(db, Room, "rooms", org_id)}
                    buildings = {building.id: building for building in _all(db, Building, "buildings", org_id)}
                    mark_rooms(db, org_id, planning.stale_room_days(change.touched, rooms, buildings))
            return change.result
        raise StaleWriteError(f"other pulls of {source!r} were stored meanwhile; this one was not")

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
        known, moments = "superseded_at IS NULL", list[int]()
        if as_of is not None:
            known = "recorded_at <= ? AND (superseded_at IS NULL OR superseded_at > ?)"
            moments = [to_ms(as_of)] * 2
        return self._select(org_id, room_ids, start, end, f"deleted = 0 AND {known}", moments, reveal_names)

    def revisions(
        self, org_id: str, room_ids: Collection[str] | None, start: datetime, end: datetime
    ) -> list[StoredBooking]:
        return self._select(org_id, room_ids, start, end, "TRUE", [], False)

    def booking_history(self, org_id: str, source: str, source_id: str) -> list[StoredBooking]:
        with self.connections.read() as db:
            rows = db.execute(
                f"SELECT {_COLUMNS} FROM bookings WHERE org = ? AND source = ? AND source_id = ? "  # noqa: S608
                "ORDER BY revision",
                (org_id, source, source_id),
            ).fetchall()
        return [self._stored(row, reveal=False) for row in rows]

    def _select(
        self,
        org_id: str,
        room_ids: Collection[str] | None,
        start: datetime,
        end: datetime,
        condition: str,
        values: list[int],
        reveal: bool,
    ) -> list[StoredBooking]:
        where = f"org = ? AND {_OVERLAP} AND {condition}"
        parameters: list[str | int] = [org_id, to_ms(end), to_ms(start), to_ms(start), *values]
        index = ""
        if room_ids is not None:
            # The planner prefers the index by time, and then reads everybody's bookings for one room.
            index = "INDEXED BY bookings_of_room"
            where += " AND room IN (SELECT value FROM json_each(?))"
            parameters.append(id_list(room_ids))
        with self.connections.read() as db:
            rows = db.execute(
                f"SELECT {_COLUMNS} FROM bookings {index} WHERE {where} "  # noqa: S608
                "ORDER BY starts_at, room, source, source_id, revision",
                parameters,
            ).fetchall()
        return [self._stored(row, reveal=reveal) for row in rows]

    def _live(
        self, db: Any, org_id: str, source: str, window: tuple[datetime, datetime], source_ids: list[str]
    ) -> dict[str, StoredBooking]:
        """The newest revisions that the window or the pull touches, names opened."""
        rows = db.execute(
            f"SELECT {_COLUMNS} FROM bookings WHERE org = ? AND source = ? AND superseded_at IS NULL "  # noqa: S608
            f"AND ({_OVERLAP} OR source_id IN (SELECT value FROM json_each(?)))",
            (org_id, source, to_ms(window[1]), to_ms(window[0]), to_ms(window[0]), id_list(source_ids)),
        )
        return {row[2]: self._stored(row, reveal=True) for row in rows.fetchall()}

    def _row(self, revision: StoredBooking) -> tuple[Any, ...]:
        sealed = None
        if revision.booked_by is not None:
            sealed = self.sealer.seal(revision.org_id, name_key(revision), revision.booked_by)
        return (
            revision.org_id,
            revision.source,
            revision.source_id,
            revision.revision,
            revision.room_id,
            to_ms(revision.start),
            to_ms(revision.end),
            to_ms(revision.recorded_at),
            int(revision.deleted),
            sealed,
            to_json(planning.planned_part(replace(revision, booked_by=None))),
        )

    def _stored(self, row: Any, *, reveal: bool) -> StoredBooking:
        org, _, _, revision, recorded_at, superseded_at, deleted, sealed, doc = row
        booking = planning.stored_from(from_json(PlannedBooking, doc), org, revision, from_ms(recorded_at))
        name = None
        if reveal and sealed is not None:
            name = self.sealer.open(org, name_key(booking), sealed)
        until = None if superseded_at is None else from_ms(superseded_at)
        return replace(booking, superseded_at=until, deleted=bool(deleted), booked_by=name)


def _state(db: Any, org_id: str, source: str) -> tuple[int, int]:
    """Number and moment of the last pull of a source."""
    row = db.execute(
        "SELECT last_pull, recorded_at FROM plan_sources WHERE org = ? AND source = ?", (org_id, source)
    ).fetchone()
    return (0, 0) if row is None else (row[0], row[1])


def _append(db: Any, rows: list[tuple[Any, ...]], moment: int) -> None:
    """New revisions, and the end of those they supersede."""
    db.executemany(
        "UPDATE bookings SET superseded_at = ? "
        "WHERE org = ? AND source = ? AND source_id = ? AND superseded_at IS NULL",
        [(moment, *row[:3]) for row in rows],
    )
    db.executemany(
        "INSERT INTO bookings (org, source, source_id, revision, room, starts_at, ends_at, recorded_at, deleted, "
        "sealed_name, doc) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        rows,
    )


def name_key(booking: StoredBooking) -> str:
    """What a sealed name is bound to."""
    return f"{booking.source}\x00{booking.source_id}"


def mark_rooms(db: Any, org_id: str, room_days: Collection[tuple[str, Any]]) -> None:
    """Room-days become stale, each with a token never used before."""
    db.executemany(
        "INSERT OR REPLACE INTO stale_rooms (org, room, day, token) VALUES (?, ?, ?, ?)",
        [(org_id, room, day_number(day), secrets.randbits(62)) for room, day in sorted(room_days)],
    )


def _all(db: Any, kind: type[Any], table: str, org_id: str) -> list[Any]:
    rows = db.execute(f"SELECT doc FROM {table} WHERE org = ?", (org_id,)).fetchall()  # noqa: S608
    return [from_json(kind, doc) for (doc,) in rows]
