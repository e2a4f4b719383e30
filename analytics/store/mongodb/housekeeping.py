"""Leases and retention on MongoDB."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any

from pymongo import DeleteOne, ReturnDocument
from pymongo.errors import DuplicateKeyError

from analytics.domain.model import Lease
from analytics.store.documents import day_number, month_number, truncated
from analytics.store.errors import StaleWriteError
from analytics.store.mongodb.connection import Document, mongo
from analytics.store.mongodb.part import midnight
from analytics.store.mongodb.plan import PlanPart

_FREE = datetime(1970, 1, 1, tzinfo=UTC)


class HousekeepingPart(PlanPart):
    """`analytics.store.base.LeaseStore` and `RetentionStore`."""

    @mongo
    def acquire_lease(self, name: str, holder: str, duration: timedelta, now: datetime) -> Lease | None:
        leases, until = self._collection("leases"), truncated(now + duration)
        ours: Document = {"_id": name, "holder": holder, "expires_at": {"$gt": now}}
        expired: Document = {"_id": name, "expires_at": {"$lte": now}}
        changes: list[tuple[Document, Document]] = [
            (ours, {"$set": {"expires_at": until}}),
            (expired, {"$set": {"expires_at": until, "holder": holder}, "$inc": {"token": 1}}),
        ]
        for condition, change in changes:
            found = leases.find_one_and_update(condition, change, return_document=ReturnDocument.AFTER)
            if found is not None:
                return Lease(name, holder, found["token"], until)
        try:
            leases.insert_one({"_id": name, "holder": holder, "token": 1, "expires_at": until})
        except DuplicateKeyError:
            return None
        return Lease(name, holder, 1, until)

    @mongo
    def renew_lease(self, lease: Lease, duration: timedelta, now: datetime) -> Lease:
        until = truncated(now + duration)
        changed = self._collection("leases").update_one(
            {"_id": lease.name, "token": lease.token, "holder": lease.holder}, {"$set": {"expires_at": until}}
        )
        if not changed.matched_count:
            raise StaleWriteError(f"the lease {lease.name!r} went to somebody else")
        return Lease(lease.name, lease.holder, lease.token, until)

    @mongo
    def release_lease(self, lease: Lease) -> None:
        self._collection("leases").update_one(  # the document stays: its token must go on growing
            {"_id": lease.name, "token": lease.token, "holder": lease.holder}, {"$set": {"expires_at": _FREE}}
        )

    @mongo
    def expire_counts(self, org_id: str, before: date) -> int:
        return self._delete("counts", {"o": org_id, "d": {"$lt": midnight(day_number(before))}})

    @mongo
    def expire_conflicts(self, org_id: str, before: datetime) -> int:
        return self._delete("conflicts", {"o": org_id, "last_seen_at": {"$lt": before}})

    @mongo
    def expire_rollups(self, org_id: str, before: date) -> int:
        return self._delete("rollups", {"o": org_id, "m": {"$lt": month_number(before)}})

    @mongo
    def expire_bookings(self, org_id: str, before: datetime) -> int:
        return self._delete("bookings", {"o": org_id, "e": {"$lt": before}})

    @mongo
    def expire_revisions(self, org_id: str, before: datetime) -> int:
        visible = self.visible(org_id)
        bookings = self._collection("bookings")
        gone = [
            doc
            for doc in bookings.find({"o": org_id, "recorded_at": {"$lt": before}}, {"doc": 0, "name": 0})
            if visible(doc["source"], doc["rev"])
            and (
                doc["deleted"] or (visible(doc["source"], doc["until_pull"]) and doc["until"].astimezone(UTC) < before)
            )
        ]
        removed = 0
        for at in range(0, len(gone), 1000):
            writes: list[Any] = [
                DeleteOne({name: doc[name] for name in ("_id", "o", "r", "b")}) for doc in gone[at : at + 1000]
            ]
            removed += bookings.bulk_write(writes, ordered=False).deleted_count
        return removed

    @mongo
    def forget_names(self, org_id: str, before: datetime) -> int:
        return (
            self._collection("bookings")
            .update_many({"o": org_id, "e": {"$lt": before}, "named": True}, {"$set": {"named": False, "name": None}})
            .modified_count
        )

    @mongo
    def expire_enrolments(self, org_id: str, before: datetime) -> int:
        return self._delete("enrolments", {"o": org_id, "expires_at": {"$lt": before}})

    def _delete(self, collection: str, condition: Document) -> int:
        return self._collection(collection).delete_many(condition).deleted_count
