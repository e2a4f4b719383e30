"""The embedded store: one encrypted SQLite file, one process."""

from analytics.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
