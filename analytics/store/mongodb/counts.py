"""Counts on MongoDB: one packed document a sensor and UTC day, written by compare-and-set."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
from bson import Binary
from pymongo.errors import DuplicateKeyError

from analytics.domain.model import CountConflict, CountOutcome, SlotArray
from analytics.store import buckets, packing
from analytics.store.documents import from_ms
from analytics.store.mongodb.connection import MAX_RACES, Document, mongo, pause, race_lost
from analytics.store.mongodb.part import Part, compare_and_set, key, midnight, one_of
from uplink.messages import CountRecord

_BUCKETS_AT_ONCE = 500


class CountPart(Part):
    """`analytics.store.base.CountStore`."""

    def ingest(self, org_id: str, records: Sequence[CountRecord], received_at: datetime) -> list[CountOutcome]:
        grouped = packing.slots_from_records(records)
        codes = self.ingest_slots(org_id, {sensor: slots for sensor, (slots, _) in grouped.items()}, received_at)
        return buckets.in_order(grouped, codes, len(records))

    @mongo
    def ingest_slots(
        self, org_id: str, slots: Mapping[str, SlotArray], received_at: datetime
    ) -> dict[str, npt.NDArray[np.uint8]]:
        outcomes = {sensor: np.empty(len(offered), dtype=np.uint8) for sensor, offered in slots.items()}
        places: dict[str, tuple[str, npt.NDArray[np.int64]]] = {}
        keys: dict[str, Document] = {}
        for sensor, offered in slots.items():
            for day, indices in packing.split_days(offered).items():
                bucket = key(org_id, sensor, day)
                keys[bucket] = {"o": org_id, "s": sensor, "d": midnight(day)}
                places[bucket] = (sensor, indices)
        standing: dict[str, SlotArray] = {}

        def merge(bucket: str, stored: Document | None) -> Document | None:
            sensor, indices = places[bucket]
            before = packing.empty_slots() if stored is None else packing.unpack_slots(stored["data"])
            merged, outcome, standing[bucket] = packing.merge_slots(before, slots[sensor][indices])
            outcomes[sensor][indices] = outcome
            if not (outcome == packing.NEW).any():
                return None
            return {"data": Binary(packing.pack_slots(merged)), "stale": True}

        ids = list(keys)
        for at in range(0, len(ids), _BUCKETS_AT_ONCE):
            compare_and_set(self._collection("counts"), {i: keys[i] for i in ids[at : at + _BUCKETS_AT_ONCE]}, merge)
        for bucket, (sensor, indices) in places.items():
            for place in np.flatnonzero(outcomes[sensor][indices] == packing.CONFLICT):
                offered = slots[sensor][indices[place : place + 1]]
                self._keep_conflict(org_id, sensor, offered, standing[bucket][place : place + 1], received_at)
        return outcomes

    def _keep_conflict(
        self, org_id: str, sensor: str, offered: SlotArray, stored: SlotArray, received_at: datetime
    ) -> None:
        packed, begin = packing.pack_slots(offered), from_ms(int(offered["start"][0]) * 1000)
        digest = hashlib.sha256(offered.tobytes()).hexdigest()[:32]
        where = {"o": org_id, "s": sensor, "t": begin, "digest": digest}
        change = {
            "$setOnInsert": {
                "stored": Binary(packing.pack_slots(stored)),
                "offered": Binary(packed),
                "first_seen_at": received_at,
            },
            "$max": {"last_seen_at": received_at},
            "$inc": {"times": 1},
        }
        doc_id = key(org_id, sensor, int(offered["start"][0]), digest)
        for attempt in range(MAX_RACES):
            pause(attempt)
            try:
                self._collection("conflicts").update_one({"_id": doc_id, **where}, change, upsert=True)
            except DuplicateKeyError:
                continue  # two upserts at once: the other one made it, now it is an update
            return
        raise race_lost("keeping a conflict")

    @mongo
    def counts(self, org_id: str, sensor_ids: Collection[str], start: datetime, end: datetime) -> dict[str, SlotArray]:
        first, last = buckets.days_of(start, end)
        found = (
            self._collection("counts")
            .find(
                {"o": org_id, "s": one_of(sensor_ids), "d": {"$gte": midnight(first), "$lte": midnight(last)}},
                {"s": 1, "data": 1},
            )
            .sort([("s", 1), ("d", 1)])
        )
        return buckets.joined(((doc["s"], doc["data"]) for doc in found), sensor_ids, start, end)

    @mongo
    def latest_counts(self, org_id: str, sensor_ids: Collection[str]) -> dict[str, SlotArray]:
        latest: dict[str, SlotArray] = {}
        for sensor in sensor_ids:
            found = list(self._collection("counts").find({"o": org_id, "s": sensor}).sort("d", -1).limit(1))
            latest[sensor] = packing.unpack_slots(found[0]["data"])[-1:] if found else packing.empty_slots()
        return latest

    @mongo
    def conflicts(
        self, org_id: str, sensor_ids: Collection[str], start: datetime, end: datetime
    ) -> list[CountConflict]:
        found = (
            self._collection("conflicts")
            .find({"o": org_id, "s": one_of(sensor_ids), "t": {"$gte": start, "$lt": end}})
            .sort([("s", 1), ("t", 1), ("first_seen_at", 1), ("offered", 1)])
        )
        return [
            CountConflict(
                org_id,
                doc["s"],
                doc["t"].astimezone(UTC),
                packing.unpack_slots(doc["stored"])[0],
                packing.unpack_slots(doc["offered"])[0],
                doc["first_seen_at"].astimezone(UTC),
                doc["last_seen_at"].astimezone(UTC),
                doc["times"],
            )
            for doc in found
        ]
