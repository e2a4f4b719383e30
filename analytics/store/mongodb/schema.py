"""Collections, indexes and shard keys on MongoDB, as steps forward like the embedded store's.

Ordinary collections only, never time-series ones (no unique keys there). On the server: find, sort, bulk writes and
unique indexes, filters by equality, `$in` and ranges; no transactions, no TTL, no pipelines: any MongoDB-compatible
server will do.

==============  ===========================  =====================================================================
collection      shard key                    hot queries that carry it
==============  ===========================  =====================================================================
counts          {o: 1, s: 1, d: 1}           ingest and reads name organisation, sensor and day
conflicts       {o: 1, s: 1, t: 1}           the same
bookings        {o: 1, r: 1, b: 1}           the plan of rooms in a stretch of time
rollups         {o: 1, r: 1, m: 1}           figures of rooms over months
stale_rooms     {o: 1, r: 1, d: 1}           marks of room-days
others          not sharded                  master data, sensors, leases: small, and unique by ``_id`` alone
==============  ===========================  =====================================================================

Never shard on time alone: all sensors write the present. Every unique index begins with its collection's shard key, as
a sharded cluster demands. Fields: ``o`` organisation, ``s`` sensor, ``r`` room, ``d`` day (midnight UTC), ``m`` month
number, ``b`` begin, ``e`` end, ``doc`` the value as JSON.
"""

from __future__ import annotations

import logging
from typing import Any

from pymongo.errors import DuplicateKeyError

from analytics.store.errors import StoreConfigurationError

log = logging.getLogger(__name__)

# collection -> [(keys, unique)]
Indexes = dict[str, list[tuple[list[tuple[str, int]], bool]]]
_V1: Indexes = {
    "counts": [([("o", 1), ("s", 1), ("d", 1)], True), ([("o", 1), ("stale", 1), ("d", 1)], False)],
    "conflicts": [([("o", 1), ("s", 1), ("t", 1), ("digest", 1)], True)],
    "sensors": [([("o", 1), ("_id", 1)], False)],
    "enrolments": [([("o", 1), ("s", 1)], False)],
}
_V2: Indexes = {
    "buildings": [([("o", 1), ("i", 1)], True)],
    "rooms": [([("o", 1), ("i", 1)], True)],
    "bookings": [
        ([("o", 1), ("r", 1), ("b", 1)], False),
        ([("o", 1), ("b", 1)], False),
        ([("o", 1), ("source", 1), ("source_id", 1)], False),
    ],
    "rollups": [([("o", 1), ("r", 1), ("m", 1), ("v", 1)], True)],
    "stale_rooms": [([("o", 1), ("r", 1), ("d", 1)], True)],
}
_V3: Indexes = {"kept": [([("kind", 1), ("o", 1), ("i", 1)], True), ([("expires", 1)], False)]}
# The step also keeps older programs away: they would write a further camera back without its board.
_V4: Indexes = {"sensors": [([("o", 1), ("board", 1)], False)]}
MIGRATIONS: tuple[Indexes, ...] = (_V1, _V2, _V3, _V4)


def migrate(database: Any) -> None:
    """Bring a database to the newest schema. Creating an index that exists does nothing, so processes may race.

    Raises StoreConfigurationError for a database of a newer program.
    """
    meta = database["meta"]
    found = meta.find_one({"_id": "schema"})
    version = 0 if found is None else int(found["version"])
    if version > len(MIGRATIONS):
        raise StoreConfigurationError(
            f"the store has schema {version}, this program knows {len(MIGRATIONS)}: start the newer program"
        )
    for number in range(version + 1, len(MIGRATIONS) + 1):
        for collection, indexes in MIGRATIONS[number - 1].items():
            for keys, unique in indexes:
                database[collection].create_index(keys, unique=unique)
        if number == 1:
            try:
                meta.insert_one({"_id": "schema", "version": 1})
            except DuplicateKeyError:
                log.debug("another process began the schema at the same time")
        else:  # never back, whoever comes last
            meta.update_one({"_id": "schema", "version": number - 1}, {"$set": {"version": number}})
        log.info("store schema is now %d", number)
