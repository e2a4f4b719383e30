"""Day roll-ups and stale days on MongoDB: one document a room, month and definition, a packed month per measure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import date
from typing import Any

from bson import Binary
from pymongo import DeleteOne, UpdateOne

from analytics.domain.model import DayRollup, RollupTable, StaleDay, StaleKind
from analytics.store import buckets, packing
from analytics.store.documents import day_number
from analytics.store.mongodb.connection import Document, mongo
from analytics.store.mongodb.part import Part, compare_and_set, key, midnight, one_of
from analytics.store.mongodb.plan import mark_rooms

_MONTHS_AT_ONCE = 500


class RollupPart(Part):
    """`analytics.store.base.RollupStore`."""

    @mongo
    def put_rollups(self, org_id: str, rollups: Collection[DayRollup]) -> None:
        months = {key(org_id, *place): (place, measures) for place, measures in buckets.by_month(rollups).items()}

        def merge(doc_id: str, stored: Document | None) -> Document:
            packed = {} if stored is None else stored["c"]
            return {
                f"c.{measure}" if stored else measure: Binary(packing.merge_month(packed.get(measure), days))
                for measure, days in months[doc_id][1].items()
            }

        def fields(doc_id: str, stored: Document | None) -> Document:
            return merge(doc_id, stored) if stored else {"c": merge(doc_id, None)}

        ids = list(months)
        for at in range(0, len(ids), _MONTHS_AT_ONCE):
            keys = {}
            for doc_id in ids[at : at + _MONTHS_AT_ONCE]:
                room, definition, month = months[doc_id][0]
                keys[doc_id] = {"o": org_id, "r": room, "m": month, "v": definition}
            compare_and_set(self._collection("rollups"), keys, fields)

    @mongo
    def rollups(
        self,
        org_id: str,
        room_ids: Sequence[str],
        start: date,
        end: date,
        definition: str,
        measures: Sequence[str],
    ) -> RollupTable:
        first, last = buckets.months_between(start, end)

        def rows() -> Iterator[tuple[str, int, str, bytes]]:
            found = self._collection("rollups").find(
                {"o": org_id, "r": one_of(room_ids), "m": {"$gte": first, "$lte": last}, "v": definition},
                {"r": 1, "m": 1, **{f"c.{measure}": 1 for measure in measures}},
            )
            for doc in found:
                for measure, data in doc["c"].items():
                    yield doc["r"], doc["m"], measure, data

        return buckets.table(rows(), room_ids, start, end, definition, measures)

    @mongo
    def stale_days(self, org_id: str, limit: int = 10_000) -> list[StaleDay]:
        stale = self._collection("counts").find({"o": org_id, "stale": True}, {"s": 1, "d": 1, "rev": 1})
        days = [
            StaleDay(StaleKind.SENSOR, doc["s"], doc["d"].date(), doc["rev"])
            for doc in stale.sort([("d", 1), ("s", 1)]).limit(limit)
        ]
        if len(days) < limit:
            rooms = self._collection("stale_rooms").find({"o": org_id}).sort([("d", 1), ("r", 1)])
            days += [
                StaleDay(StaleKind.ROOM, doc["r"], doc["d"].date(), doc["token"])
                for doc in rooms.limit(limit - len(days))
            ]
        return days

    @mongo
    def mark_stale(self, org_id: str, room_days: Iterable[tuple[str, date]]) -> None:
        mark_rooms(self, org_id, set(room_days))

    @mongo
    def clear_stale(self, org_id: str, days: Collection[StaleDay]) -> None:
        sensors: list[Any] = []
        rooms: list[Any] = []
        for day in days:
            number = day_number(day.day)
            where = {"_id": key(org_id, day.id, number), "o": org_id, "d": midnight(number)}
            if day.kind is StaleKind.SENSOR:
                sensors.append(UpdateOne({**where, "s": day.id, "rev": day.token}, {"$set": {"stale": False}}))
            else:
                rooms.append(DeleteOne({**where, "r": day.id, "token": day.token}))
        if sensors:
            self._collection("counts").bulk_write(sensors, ordered=False)
        if rooms:
            self._collection("stale_rooms").bulk_write(rooms, ordered=False)
