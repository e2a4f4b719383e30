"""Leases and retention in the embedded store."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from analytics.domain.model import Lease
from analytics.store.documents import day_number, from_ms, month_number, to_ms
from analytics.store.errors import StaleWriteError
from analytics.store.sqlite.part import Part


class HousekeepingPart(Part):
    """`analytics.store.base.LeaseStore` and `RetentionStore`."""

    def acquire_lease(self, name: str, holder: str, duration: timedelta, now: datetime) -> Lease | None:
        moment, until = to_ms(now), to_ms(now + duration)
        with self.connections.write() as db:
            row = db.execute(
                "INSERT INTO leases (name, holder, token, expires_at) VALUES (?, ?, 1, ?) ON CONFLICT (name) DO UPDATE "
                "SET token = token + (holder <> excluded.holder OR expires_at <= ?), holder = excluded.holder, "
                "expires_at = excluded.expires_at WHERE holder = excluded.holder OR expires_at <= ? RETURNING token",
                (name, holder, until, moment, moment),
            ).fetchone()
        return None if row is None else Lease(name, holder, row[0], from_ms(until))

    def renew_lease(self, lease: Lease, duration: timedelta, now: datetime) -> Lease:
        until = to_ms(now + duration)
        with self.connections.write() as db:
            changed = db.execute(
                "UPDATE leases SET expires_at = ? WHERE name = ? AND token = ? AND holder = ?",
                (until, lease.name, lease.token, lease.holder),
            ).rowcount
        if not changed:
            raise StaleWriteError(f"the lease {lease.name!r} went to somebody else")
        return Lease(lease.name, lease.holder, lease.token, from_ms(until))

    def release_lease(self, lease: Lease) -> None:
        with self.connections.write() as db:  # the row stays: its token must go on growing
            db.execute(
                "UPDATE leases SET expires_at = 0 WHERE name = ? AND token = ? AND holder = ?",
                (lease.name, lease.token, lease.holder),
            )

    def expire_counts(self, org_id: str, before: date) -> int:
        return self._delete("DELETE FROM count_buckets WHERE org = ? AND day < ?", org_id, day_number(before))

    def expire_conflicts(self, org_id: str, before: datetime) -> int:
        return self._delete("DELETE FROM count_conflicts WHERE org = ? AND last_seen_at < ?", org_id, to_ms(before))

    def expire_rollups(self, org_id: str, before: date) -> int:
        return self._delete("DELETE FROM rollup_months WHERE org = ? AND month < ?", org_id, month_number(before))

    def expire_bookings(self, org_id: str, before: datetime) -> int:
        return self._delete("DELETE FROM bookings WHERE org = ? AND ends_at < ?", org_id, to_ms(before))

    def expire_revisions(self, org_id: str, before: datetime) -> int:
        return self._delete(
            "DELETE FROM bookings WHERE org = ?1 AND (superseded_at < ?2 OR (deleted = 1 AND recorded_at < ?2))",
            org_id,
            to_ms(before),
        )

    def forget_names(self, org_id: str, before: datetime) -> int:
        return self._delete(
            "UPDATE bookings SET sealed_name = NULL WHERE org = ? AND ends_at < ? AND sealed_name IS NOT NULL",
            org_id,
            to_ms(before),
        )

    def expire_enrolments(self, org_id: str, before: datetime) -> int:
        return self._delete("DELETE FROM enrolments WHERE org = ? AND expires_at < ?", org_id, to_ms(before))

    def _delete(self, statement: str, *values: Any) -> int:
        with self.connections.write() as db:
            removed: int = db.execute(statement, values).rowcount
        if removed:
            self.connections.reclaim()
        return removed
