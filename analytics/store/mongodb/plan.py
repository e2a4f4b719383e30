"""Bookings with their history on MongoDB. A pull becomes visible with one write, without transactions.

Every attempt to store a pull takes a number of its own. Revisions carry the number of the pull that wrote them
(``rev``) and of the one that superseded them (``until_pull``). The source's document names the ``current`` pull and
those below it that were ``aborted``: whatever carries the number of a pull above ``current`` or of an aborted one does
not exist for readers. Setting ``current`` by compare-and-set is the commit, and only the newest attempt can make it: so
an attempt may overwrite the marks of all that began before it and did not commit. A process that dies midway leaves
nothing visible; one that wakes up late finds that it cannot commit, and what it wrote stays invisible until swept.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from bson import Binary
from pymongo import InsertOne, ReturnDocument, UpdateOne
from pymongo.errors import DuplicateKeyError

from analytics.domain.model import Building, PlannedBooking, PullResult, Room, StoredBooking
from analytics.store import planning
from analytics.store.documents import day_number, from_json, to_json, truncated
from analytics.store.errors import StaleWriteError
from analytics.store.mongodb.connection import Document, mongo
from analytics.store.mongodb.part import Part, key, midnight, one_of, replace_all

_IDS_AT_ONCE = 1_000
_NO_ROOM = ""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
Visible = Callable[[str, int | None], bool]


class PlanPart(Part):
    """`analytics.store.base.PlanStore`."""

    @mongo
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
        state = self._begin(org_id, source)
        pull, current = state["next"], state["current"]
        # A clock set back must not turn history round.
        moment = max(truncated(recorded_at), state["recorded_at"].astimezone(UTC))
        live = self._live(org_id, source, window, list(pulled), _visible_in([state]))
        change = planning.compare({i: booking for i, (booking, _) in live.items()}, pulled, window, room_refs)
        stale = self._stale_days(org_id, change.touched)
        mark_rooms(self, org_id, stale)  # before: not forgotten if this process dies after the commit
        revisions = [planning.stored_from(booking, org_id, pull, moment) for booking in change.add]
        revisions += [planning.tombstone(old, pull, moment) for old in change.bury]
        aborted = [*state["aborted"], *range(current + 1, pull)]
        self._write(revisions, live, [None, *aborted])
        committed = self._collection("plan_sources").update_one(
            {"_id": state["_id"], "current": current, "next": pull},
            {"$set": {"current": pull, "aborted": aborted, "recorded_at": moment}},
        )
        if not committed.matched_count:
            raise StaleWriteError(f"another pull of {source!r} was stored meanwhile; this one was not")
        mark_rooms(self, org_id, stale)  # after: roll-ups computed in between saw the plan before
        if aborted:
            self._collection("bookings").delete_many({"o": org_id, "source": source, "rev": {"$in": aborted}})
        return change.result

    @mongo
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
        def known(booking: StoredBooking) -> bool:
            if as_of is None:
                return booking.superseded_at is None
            until = booking.superseded_at
            return booking.recorded_at <= as_of and (until is None or until > as_of)

        found = self._overlapping(org_id, room_ids, start, end, reveal=reveal_names)
        return [booking for booking in found if not booking.deleted and known(booking)]

    @mongo
    def revisions(
        self, org_id: str, room_ids: Collection[str] | None, start: datetime, end: datetime
    ) -> list[StoredBooking]:
        return self._overlapping(org_id, room_ids, start, end, reveal=False)

    @mongo
    def booking_history(self, org_id: str, source: str, source_id: str) -> list[StoredBooking]:
        visible = self.visible(org_id)
        found = self._collection("bookings").find({"o": org_id, "source": source, "source_id": source_id})
        return [self.stored(doc, visible) for doc in found.sort("rev", 1) if visible(source, doc["rev"])]

    def visible(self, org_id: str) -> Visible:
        """Which pulls exist for readers, as of now."""
        return _visible_in(self._collection("plan_sources").find({"o": org_id}))

    def _begin(self, org_id: str, source: str) -> Document:
        """A number for this attempt, never used before."""
        sources, doc_id = self._collection("plan_sources"), key(org_id, source)
        while True:
            state = sources.find_one_and_update(
                {"_id": doc_id}, {"$inc": {"next": 1}}, return_document=ReturnDocument.AFTER
            )
            if state is not None:
                return state
            first = {"_id": doc_id, "o": org_id, "source": source, "next": 0, "current": 0, "aborted": []}
            with suppress(DuplicateKeyError):  # two first pulls at once: the document is there now
                sources.insert_one({**first, "recorded_at": _EPOCH})

    def _live(
        self,
        org_id: str,
        source: str,
        window: tuple[datetime, datetime],
        source_ids: list[str],
        visible: Visible,
    ) -> dict[str, tuple[StoredBooking, Document]]:
        """The newest revisions that the window or the pull touches, names opened, with their documents."""
        of_source = {"o": org_id, "source": source}
        in_window = {**of_source, "b": {"$lt": window[1]}, "e": {"$gte": window[0]}}
        live: dict[str, tuple[StoredBooking, Document]] = {}

        def take(condition: Document) -> None:
            for doc in self._collection("bookings").find(condition):
                if visible(source, doc["rev"]) and not visible(source, doc["until_pull"]):
                    live[doc["source_id"]] = (self.stored(doc, visible, reveal=True), doc)

        take(in_window)
        missing = [source_id for source_id in source_ids if source_id not in live]
        for at in range(0, len(missing), _IDS_AT_ONCE):
            take({**of_source, "source_id": one_of(missing[at : at + _IDS_AT_ONCE])})
        return live

    def _write(
        self,
        revisions: Iterable[StoredBooking],
        live: dict[str, tuple[StoredBooking, Document]],
        free: list[int | None],
    ) -> None:
        """Insert revisions and say what they supersede; ``free``: values of ``until_pull`` that mean nothing."""
        writes: list[Any] = []
        for revision in revisions:
            writes.append(InsertOne(self._document(revision)))
            if revision.source_id in live:
                old = live[revision.source_id][1]
                where = {name: old[name] for name in ("_id", "o", "r", "b")}
                change = {"$set": {"until_pull": revision.revision, "until": revision.recorded_at}}
                writes.append(UpdateOne({**where, "until_pull": {"$in": free}}, change))
        if writes:
            self._collection("bookings").bulk_write(writes, ordered=False)

    def _document(self, revision: StoredBooking) -> Document:
        sealed = None
        if revision.booked_by is not None:
            sealed = Binary(self.sealer.seal(revision.org_id, name_key(revision), revision.booked_by))
        return {
            "_id": key(revision.org_id, revision.source, revision.source_id, revision.revision),
            "o": revision.org_id,
            "r": _NO_ROOM if revision.room_id is None else revision.room_id,
            "b": revision.start,
            "e": revision.end,
            "source": revision.source,
            "source_id": revision.source_id,
            "rev": revision.revision,
            "until_pull": None,
            "recorded_at": revision.recorded_at,
            "until": None,
            "deleted": revision.deleted,
            "named": sealed is not None,
            "name": sealed,
            "doc": to_json(planning.planned_part(replace(revision, booked_by=None))),
        }

    def _overlapping(
        self, org_id: str, room_ids: Collection[str] | None, start: datetime, end: datetime, *, reveal: bool
    ) -> list[StoredBooking]:
        visible = self.visible(org_id)  # before the bookings: a pull committed in between is not half seen
        condition: Document = {"o": org_id, "b": {"$lt": end}, "e": {"$gte": start}}
        if room_ids is not None:
            condition["r"] = one_of(room_ids)
        found = [
            self.stored(doc, visible, reveal=reveal)
            for doc in self._collection("bookings").find(condition)
            if visible(doc["source"], doc["rev"])
        ]
        found = [booking for booking in found if planning.overlaps(booking, start, end)]
        return sorted(found, key=lambda b: (b.start, b.room_id or "", b.source, b.source_id, b.revision))

    def stored(self, doc: Document, visible: Visible, *, reveal: bool = False) -> StoredBooking:
        """A document as readers of a committed plan see it."""
        booking = planning.stored_from(
            from_json(PlannedBooking, doc["doc"]), doc["o"], doc["rev"], doc["recorded_at"].astimezone(UTC)
        )
        name = None
        if reveal and doc["name"] is not None:
            name = self.sealer.open(doc["o"], name_key(booking), bytes(doc["name"]))
        until = doc["until"].astimezone(UTC) if visible(doc["source"], doc["until_pull"]) else None
        return replace(booking, superseded_at=until, deleted=doc["deleted"], booked_by=name)

    def _stale_days(self, org_id: str, touched: Collection[PlannedBooking]) -> set[tuple[str, date]]:
        if not touched:
            return set()
        rooms = {doc["i"]: from_json(Room, doc["doc"]) for doc in self._collection("rooms").find({"o": org_id})}
        buildings = {
            doc["i"]: from_json(Building, doc["doc"]) for doc in self._collection("buildings").find({"o": org_id})
        }
        return planning.stale_room_days(touched, rooms, buildings)


def _visible_in(states: Iterable[Document]) -> Visible:
    known = {state["source"]: (state["current"], frozenset(state["aborted"])) for state in states}

    def visible(source: str, pull: int | None) -> bool:
        current, aborted = known.get(source, (0, frozenset()))
        return pull is not None and pull <= current and pull not in aborted

    return visible


def name_key(booking: StoredBooking) -> str:
    """What a sealed name is bound to."""
    return f"{booking.source}\x00{booking.source_id}"


def mark_rooms(part: Part, org_id: str, room_days: Collection[tuple[str, date]]) -> None:
    """Room-days become stale, each with a token never used before."""
    documents = [
        {
            "_id": key(org_id, room, day_number(day)),
            "o": org_id,
            "r": room,
            "d": midnight(day_number(day)),
            "token": secrets.randbits(62),
        }
        for room, day in sorted(room_days)
    ]
    replace_all(part.database["stale_rooms"], documents, "o", "r", "d")
