"""Sealed values in the embedded store."""

from __future__ import annotations

from datetime import datetime

from sqlcipher3 import dbapi2 as sqlcipher

from analytics.store.documents import from_ms, to_ms
from analytics.store.errors import AlreadyExistsError, StaleWriteError
from analytics.store.kept import RawKept
from analytics.store.sqlite.part import Part


class KeptPart(Part):
    """`analytics.store.kept.KeptStore`."""

    def read_kept(self, kind: str, org_id: str, item_id: str) -> RawKept | None:
        with self.connections.read() as db:
            row = db.execute(
                "SELECT id, version, sealed, expires_at FROM kept WHERE kind = ? AND org = ? AND id = ?",
                (kind, org_id, item_id),
            ).fetchone()
        return None if row is None else _raw(*row)

    def list_kept(
        self, kind: str, org_id: str, *, after: str = "", limit: int = 1000, newest_first: bool = False
    ) -> list[RawKept]:
        beyond, order = ("<", "DESC") if newest_first else (">", "ASC")
        # Without a place to go on from, the newest come first; every id is greater than the empty one.
        bound = f"AND id {beyond} ?" if after or not newest_first else "AND ? = ''"
        with self.connections.read() as db:
            rows = db.execute(
                "SELECT id, version, sealed, expires_at FROM kept "  # noqa: S608
                f"WHERE kind = ? AND org = ? {bound} ORDER BY id {order} LIMIT ?",
                (kind, org_id, after, limit),
            ).fetchall()
        return [_raw(*row) for row in rows]

    def write_kept(self, kind: str, org_id: str, item: RawKept, replaces: int) -> None:
        expires = None if item.expires_at is None else to_ms(item.expires_at)
        with self.connections.write() as db:
            if replaces:
                changed = db.execute(
                    "UPDATE kept SET version = ?, sealed = ?, expires_at = ? "
                    "WHERE kind = ? AND org = ? AND id = ? AND version = ?",
                    (item.version, item.sealed, expires, kind, org_id, item.id, replaces),
                ).rowcount
                if changed != 1:
                    raise StaleWriteError(f"this {kind} was changed by somebody else")
                return
            try:
                db.execute(
                    "INSERT INTO kept (kind, org, id, version, sealed, expires_at) VALUES (?, ?, ?, ?, ?, ?)",
                    (kind, org_id, item.id, item.version, item.sealed, expires),
                )
            except sqlcipher.IntegrityError:
                raise AlreadyExistsError(f"there is such a {kind} already") from None

    def remove_kept(self, kind: str, org_id: str, item_id: str, version: int | None = None) -> bool:
        with self.connections.write() as db:
            removed: int = db.execute(
                "DELETE FROM kept WHERE kind = ? AND org = ? AND id = ? AND version = coalesce(?, version)",
                (kind, org_id, item_id, version),
            ).rowcount
        return removed == 1

    def expire_kept(self, before: datetime) -> int:
        with self.connections.write() as db:
            removed: int = db.execute("DELETE FROM kept WHERE expires_at < ?", (to_ms(before),)).rowcount
        return removed


def _raw(item_id: str, version: int, sealed: bytes, expires_at: int | None) -> RawKept:
    return RawKept(item_id, version, sealed, None if expires_at is None else from_ms(expires_at))
