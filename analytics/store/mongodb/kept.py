"""Sealed values on MongoDB: one collection, small, unique by ``_id``."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pymongo.errors import DuplicateKeyError

from analytics.store.documents import truncated
from analytics.store.errors import AlreadyExistsError, StaleWriteError
from analytics.store.kept import RawKept
from analytics.store.mongodb.connection import Document, mongo
from analytics.store.mongodb.part import Part, key


class KeptPart(Part):
    """`analytics.store.kept.KeptStore`."""

    @mongo
    def read_kept(self, kind: str, org_id: str, item_id: str) -> RawKept | None:
        found = self._collection("kept").find_one({"_id": key(kind, org_id, item_id)})
        return None if found is None else _raw(found)

    @mongo
    def list_kept(
        self, kind: str, org_id: str, *, after: str = "", limit: int = 1000, newest_first: bool = False
    ) -> list[RawKept]:
        query: dict[str, Any] = {"kind": kind, "o": org_id}
        if after:
            query["i"] = {"$lt" if newest_first else "$gt": after}
        found = self._collection("kept").find(query).sort("i", -1 if newest_first else 1).limit(limit)
        return [_raw(document) for document in found]

    @mongo
    def write_kept(self, kind: str, org_id: str, item: RawKept, replaces: int) -> None:
        document: Document = {
            "_id": key(kind, org_id, item.id),
            "kind": kind,
            "o": org_id,
            "i": item.id,
            "version": item.version,
            "sealed": item.sealed,
            "expires": None if item.expires_at is None else truncated(item.expires_at),
        }
        if replaces:
            done = self._collection("kept").replace_one({"_id": document["_id"], "version": replaces}, document)
            if done.matched_count != 1:
                raise StaleWriteError(f"this {kind} was changed by somebody else")
            return
        try:
            self._collection("kept").insert_one(document)
        except DuplicateKeyError:
            raise AlreadyExistsError(f"there is such a {kind} already") from None

    @mongo
    def remove_kept(self, kind: str, org_id: str, item_id: str, version: int | None = None) -> bool:
        query: dict[str, Any] = {"_id": key(kind, org_id, item_id)}
        if version is not None:
            query["version"] = version
        return self._collection("kept").delete_one(query).deleted_count == 1

    @mongo
    def expire_kept(self, before: datetime) -> int:
        return self._collection("kept").delete_many({"expires": {"$lt": before, "$ne": None}}).deleted_count


def _raw(document: Document) -> RawKept:
    return RawKept(document["i"], int(document["version"]), bytes(document["sealed"]), document.get("expires"))
