"""What every part of the store on MongoDB leans on."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Collection as Collection_
from datetime import UTC, datetime
from typing import Any

from pymongo import InsertOne, ReplaceOne, UpdateOne
from pymongo.errors import BulkWriteError
from pymongo.synchronous.collection import Collection
from pymongo.synchronous.database import Database

from analytics.store.documents import day_of
from analytics.store.mongodb.connection import MAX_RACES, Document, only_duplicates, pause, race_lost
from analytics.store.sealing import NameSealer

SEPARATOR = "\x1f"  # between the parts of an _id; ids that people choose do not hold it


class Part:
    """A part of the store: it shares the database and the sealer."""

    database: Database[Document]
    sealer: NameSealer

    def _collection(self, name: str) -> Collection[Document]:
        return self.database[name]


def key(*parts: str | int) -> str:
    """An ``_id`` of several parts. Raises ValueError for a part that could be mistaken for two."""
    texts = [str(part) for part in parts]
    if any(SEPARATOR in text for text in texts):
        raise ValueError("an id holds a control character")
    return SEPARATOR.join(texts)


def midnight(day: int) -> datetime:
    """A day as MongoDB keeps it."""
    date = day_of(day)
    return datetime(date.year, date.month, date.day, tzinfo=UTC)


def one_of(values: Collection_[Any]) -> Any:
    """A filter for any of some values: plain equality for one, which every server answers from an index."""
    kept = list(values)
    return kept[0] if len(kept) == 1 else {"$in": kept}


def compare_and_set(
    collection: Collection[Document],
    keys: Mapping[str, Document],
    change: Callable[[str, Document | None], Document | None],
) -> None:
    """Read documents, change them, write them back unless somebody else did meanwhile; those go again.

    ``keys`` maps each ``_id`` to its shard key. ``change`` gets the id and the document as the majority holds it (None:
    not there) and returns the fields to set, or None when nothing is to be written; it may be called again. Every write
    raises ``rev`` by one and leaves the writer's mark in ``w``, by which a half-failed bulk is sorted out.
    """
    pending = dict(keys)
    for attempt in range(MAX_RACES):
        pause(attempt)
        mark = secrets.token_hex(8)
        shard = {name: one_of({k[name]: None for k in pending.values()}) for name in next(iter(pending.values()), {})}
        found = {doc["_id"]: doc for doc in collection.find({"_id": one_of(pending), **shard})}
        writes: dict[str, Any] = {}
        for doc_id, where in pending.items():
            stored = found.get(doc_id)
            fields = change(doc_id, stored)
            if fields is None:
                continue
            if stored is None:
                writes[doc_id] = InsertOne({"_id": doc_id, **where, **fields, "rev": 1, "w": mark})
            else:
                condition = {"_id": doc_id, **where, "rev": stored["rev"]}
                writes[doc_id] = UpdateOne(condition, {"$set": {**fields, "rev": stored["rev"] + 1, "w": mark}})
        if not writes:
            return
        done = 0
        try:
            result = collection.bulk_write(list(writes.values()), ordered=False)
            done = result.inserted_count + result.matched_count
        except BulkWriteError as error:
            if not only_duplicates(error):
                raise
        if done == len(writes):
            return
        ours = collection.find({"_id": one_of(writes), **shard, "w": mark}, {"_id": 1})
        written = {doc["_id"] for doc in ours}
        pending = {doc_id: keys[doc_id] for doc_id in writes if doc_id not in written}
        if not pending:
            return
    raise race_lost("storing a bucket")


def replace_all(collection: Collection[Document], documents: Sequence[Document], *shard: str) -> None:
    """Unordered bulk upserts by ``_id`` and shard key; of two at once one sees a duplicate key and goes again."""
    pending: list[Any] = [
        ReplaceOne({"_id": doc["_id"], **{name: doc[name] for name in shard}}, doc, upsert=True) for doc in documents
    ]
    for attempt in range(MAX_RACES):
        if not pending:
            return
        try:
            collection.bulk_write(pending, ordered=False)
        except BulkWriteError as error:
            if not only_duplicates(error):
                raise
            pending = [pending[problem["index"]] for problem in (error.details or {})["writeErrors"]]
            pause(attempt)
        else:
            return
    raise race_lost("replacing documents")
