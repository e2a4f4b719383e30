"""Counts in the embedded store: one packed row a sensor and UTC day."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from analytics.domain.model import CountConflict, CountOutcome, SlotArray
from analytics.store import buckets, packing
from analytics.store.documents import from_ms, to_ms
from analytics.store.sqlite.part import Part, id_list
from uplink.messages import CountRecord


class CountPart(Part):
    """`analytics.store.base.CountStore`."""

    def ingest(self, org_id: str, records: Sequence[CountRecord], received_at: datetime) -> list[CountOutcome]:
        grouped = packing.slots_from_records(records)
        codes = self.ingest_slots(org_id, {sensor: slots for sensor, (slots, _) in grouped.items()}, received_at)
        return buckets.in_order(grouped, codes, len(records))

    def ingest_slots(
        self, org_id: str, slots: Mapping[str, SlotArray], received_at: datetime
    ) -> dict[str, npt.NDArray[np.uint8]]:
        outcomes: dict[str, npt.NDArray[np.uint8]] = {}
        now = to_ms(received_at)
        with self.connections.write() as db:
            for sensor, offered in slots.items():
                outcome = outcomes[sensor] = np.empty(len(offered), dtype=np.uint8)
                for day, places in packing.split_days(offered).items():
                    outcome[places] = _merge_day(db, (org_id, sensor, day), offered[places], now)
        return outcomes

    def counts(self, org_id: str, sensor_ids: Collection[str], start: datetime, end: datetime) -> dict[str, SlotArray]:
        first, last = buckets.days_of(start, end)
        with self.connections.read() as db:
            rows = db.execute(
                "SELECT sensor, data FROM count_buckets WHERE org = ? AND sensor IN (SELECT value FROM json_each(?)) "
                "AND day BETWEEN ? AND ? ORDER BY sensor, day",
                (org_id, id_list(sensor_ids), first, last),
            ).fetchall()
        return buckets.joined(rows, sensor_ids, start, end)

    def latest_counts(self, org_id: str, sensor_ids: Collection[str]) -> dict[str, SlotArray]:
        with self.connections.read() as db:
            found = {
                sensor: db.execute(
                    "SELECT data FROM count_buckets WHERE org = ? AND sensor = ? ORDER BY day DESC LIMIT 1",
                    (org_id, sensor),
                ).fetchone()
                for sensor in sensor_ids
            }
        return {
            sensor: packing.empty_slots() if row is None else packing.unpack_slots(row[0])[-1:]
            for sensor, row in found.items()
        }

    def conflicts(
        self, org_id: str, sensor_ids: Collection[str], start: datetime, end: datetime
    ) -> list[CountConflict]:
        with self.connections.read() as db:
            rows = db.execute(
                "SELECT sensor, start, stored, offered, first_seen_at, last_seen_at, times FROM count_conflicts "
                "WHERE org = ? AND sensor IN (SELECT value FROM json_each(?)) AND start >= ? AND start < ? "
                "ORDER BY sensor, start, first_seen_at, offered",
                (org_id, id_list(sensor_ids), to_ms(start), to_ms(end)),
            ).fetchall()
        return [
            CountConflict(
                org_id,
                sensor,
                from_ms(begin),
                packing.unpack_slots(stored)[0],
                packing.unpack_slots(offered)[0],
                from_ms(first_seen),
                from_ms(last_seen),
                times,
            )
            for sensor, begin, stored, offered, first_seen, last_seen, times in rows
        ]


def _merge_day(db: Any, key: tuple[str, str, int], offered: SlotArray, now: int) -> npt.NDArray[np.uint8]:
    row = db.execute("SELECT data FROM count_buckets WHERE org = ? AND sensor = ? AND day = ?", key).fetchone()
    stored = packing.empty_slots() if row is None else packing.unpack_slots(row[0])
    merged, outcome, standing = packing.merge_slots(stored, offered)
    if (outcome == packing.NEW).any():
        db.execute(
            "INSERT INTO count_buckets (org, sensor, day, rev, stale, data) VALUES (?, ?, ?, 1, 1, ?) "
            "ON CONFLICT (org, sensor, day) DO UPDATE SET rev = rev + 1, stale = 1, data = excluded.data",
            (*key, packing.pack_slots(merged)),
        )
    for place in np.flatnonzero(outcome == packing.CONFLICT):
        db.execute(
            "INSERT INTO count_conflicts (org, sensor, start, stored, offered, first_seen_at, last_seen_at, times) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, 1) ON CONFLICT (org, sensor, start, offered) "
            "DO UPDATE SET last_seen_at = max(last_seen_at, excluded.last_seen_at), times = times + 1",
            (
                *key[:2],
                int(offered["start"][place]) * 1000,
                packing.pack_slots(standing[place : place + 1]),
                packing.pack_slots(offered[place : place + 1]),
                now,
                now,
            ),
        )
    return outcome
