"""The schema of the embedded store, as steps forward. A step is never changed once released; new ones are appended.

Times are INTEGER milliseconds since 1970 UTC, days INTEGER days since 1970, months ``year * 12 + month - 1``. Values
that the program reads whole are JSON in ``doc``, with the columns that queries need beside it.
"""

from __future__ import annotations

import logging
from typing import Any

from analytics.store.errors import StoreConfigurationError

log = logging.getLogger(__name__)

_V1 = """
CREATE TABLE organisations (
  org TEXT PRIMARY KEY, doc TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE sensors (
  id TEXT PRIMARY KEY, org TEXT NOT NULL, tunnel_ip TEXT UNIQUE, wireguard_public_key TEXT UNIQUE, doc TEXT NOT NULL
) STRICT;
CREATE INDEX sensors_of_org ON sensors (org, id);
CREATE TABLE enrolments (
  id TEXT PRIMARY KEY, org TEXT NOT NULL, sensor TEXT NOT NULL, secret_hash TEXT NOT NULL, verification_hash TEXT,
  expires_at INTEGER NOT NULL, attempts_left INTEGER NOT NULL CHECK (attempts_left >= 0), created_at INTEGER NOT NULL,
  activated_at INTEGER
) STRICT;
CREATE INDEX enrolments_of_sensor ON enrolments (org, sensor);
CREATE TABLE count_buckets (
  org TEXT NOT NULL, sensor TEXT NOT NULL, day INTEGER NOT NULL, rev INTEGER NOT NULL, stale INTEGER NOT NULL,
  data BLOB NOT NULL, UNIQUE (org, sensor, day)
) STRICT;
CREATE INDEX stale_buckets ON count_buckets (org, day, sensor) WHERE stale = 1;
CREATE TABLE count_conflicts (
  org TEXT NOT NULL, sensor TEXT NOT NULL, start INTEGER NOT NULL, offered BLOB NOT NULL, stored BLOB NOT NULL,
  first_seen_at INTEGER NOT NULL, last_seen_at INTEGER NOT NULL, times INTEGER NOT NULL,
  PRIMARY KEY (org, sensor, start, offered)
) STRICT, WITHOUT ROWID;
CREATE TABLE leases (
  name TEXT PRIMARY KEY, holder TEXT NOT NULL, token INTEGER NOT NULL, expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""

_V2 = """
CREATE TABLE buildings (
  org TEXT NOT NULL, id TEXT NOT NULL, doc TEXT NOT NULL, PRIMARY KEY (org, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE rooms (
  org TEXT NOT NULL, id TEXT NOT NULL, building TEXT NOT NULL, doc TEXT NOT NULL, PRIMARY KEY (org, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX rooms_of_building ON rooms (org, building, id);
CREATE TABLE plan_sources (
  org TEXT NOT NULL, source TEXT NOT NULL, last_pull INTEGER NOT NULL, recorded_at INTEGER NOT NULL,
  PRIMARY KEY (org, source)
) STRICT, WITHOUT ROWID;
CREATE TABLE bookings (
  org TEXT NOT NULL, source TEXT NOT NULL, source_id TEXT NOT NULL, revision INTEGER NOT NULL, room TEXT,
  starts_at INTEGER NOT NULL, ends_at INTEGER NOT NULL, recorded_at INTEGER NOT NULL, superseded_at INTEGER,
  deleted INTEGER NOT NULL, sealed_name BLOB, doc TEXT NOT NULL,
  UNIQUE (org, source, source_id, revision)
) STRICT;
CREATE INDEX bookings_of_room ON bookings (org, room, starts_at);
CREATE INDEX bookings_by_time ON bookings (org, starts_at);
CREATE INDEX live_bookings ON bookings (org, source, starts_at) WHERE superseded_at IS NULL;
CREATE INDEX named_bookings ON bookings (org, ends_at) WHERE sealed_name IS NOT NULL;
CREATE TABLE rollup_months (
  org TEXT NOT NULL, definition TEXT NOT NULL, measure TEXT NOT NULL, room TEXT NOT NULL, month INTEGER NOT NULL,
  data BLOB NOT NULL, PRIMARY KEY (org, definition, measure, room, month)
) STRICT, WITHOUT ROWID;
CREATE TABLE stale_rooms (
  org TEXT NOT NULL, room TEXT NOT NULL, day INTEGER NOT NULL, token INTEGER NOT NULL, PRIMARY KEY (org, room, day)
) STRICT, WITHOUT ROWID;
"""

_V3 = """
CREATE TABLE kept (
  kind TEXT NOT NULL, org TEXT NOT NULL, id TEXT NOT NULL, version INTEGER NOT NULL, sealed BLOB NOT NULL,
  expires_at INTEGER, PRIMARY KEY (kind, org, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX kept_expiry ON kept (expires_at) WHERE expires_at IS NOT NULL;
"""

# The step also keeps older programs away: they would write a further camera back without its board.
_V4 = """
ALTER TABLE sensors ADD COLUMN board TEXT;
CREATE INDEX sensors_of_board ON sensors (org, board) WHERE board IS NOT NULL;
"""

MIGRATIONS: tuple[str, ...] = (_V1, _V2, _V3, _V4)


def migrate(connection: Any) -> None:
    """Bring a file to the newest schema, each step in one transaction with its number.

    Raises StoreConfigurationError for a file of a newer program: going back would lose what it added.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise StoreConfigurationError(
            f"the store has schema {version}, this program knows {len(MIGRATIONS)}: start the newer program"
        )
    for number in range(version + 1, len(MIGRATIONS) + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in MIGRATIONS[number - 1].split(";\n"):
                if statement.strip():
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        log.info("store schema is now %d", number)
