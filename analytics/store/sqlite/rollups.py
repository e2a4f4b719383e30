"""Day roll-ups and stale days in the embedded store: one packed row a room, month and measure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import date

from analytics.domain.model import DayRollup, RollupTable, StaleDay, StaleKind
from analytics.store import buckets, packing
from analytics.store.documents import day_number, day_of
from analytics.store.sqlite.part import Part, id_list
from analytics.store.sqlite.plan import mark_rooms


class RollupPart(Part):
    """`analytics.store.base.RollupStore`."""

    def put_rollups(self, org_id: str, rollups: Collection[DayRollup]) -> None:
        months = buckets.by_month(rollups)
        with self.connections.write() as db:
            for (room, definition, month), measures in months.items():
                for measure, days in measures.items():
                    key = (org_id, definition, measure, room, month)
                    row = db.execute(
                        "SELECT data FROM rollup_months "
                        "WHERE org = ? AND definition = ? AND measure = ? AND room = ? AND month = ?",
                        key,
                    ).fetchone()
                    db.execute(
                        "INSERT OR REPLACE INTO rollup_months (org, definition, measure, room, month, data) "
                        "VALUES (?, ?, ?, ?, ?, ?)",
                        (*key, packing.merge_month(row and row[0], days)),
                    )

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
        with self.connections.read() as db:
            rows = [
                (room, month, measure, data)
                for measure in measures
                for room, month, data in db.execute(
                    "SELECT room, month, data FROM rollup_months WHERE org = ? AND definition = ? AND measure = ? "
                    "AND room IN (SELECT value FROM json_each(?)) AND month BETWEEN ? AND ?",
                    (org_id, definition, measure, id_list(room_ids), first, last),
                )
            ]
        return buckets.table(rows, room_ids, start, end, definition, measures)

    def stale_days(self, org_id: str, limit: int = 10_000) -> list[StaleDay]:
        with self.connections.read() as db:
            sensors = db.execute(
                "SELECT sensor, day, rev FROM count_buckets WHERE org = ? AND stale = 1 ORDER BY day, sensor LIMIT ?",
                (org_id, limit),
            ).fetchall()
            rooms = db.execute(
                "SELECT room, day, token FROM stale_rooms WHERE org = ? ORDER BY day, room LIMIT ?",
                (org_id, limit - len(sensors)),
            ).fetchall()
        return [StaleDay(StaleKind.SENSOR, key, day_of(day), token) for key, day, token in sensors] + [
            StaleDay(StaleKind.ROOM, key, day_of(day), token) for key, day, token in rooms
        ]

    def mark_stale(self, org_id: str, room_days: Iterable[tuple[str, date]]) -> None:
        with self.connections.write() as db:
            mark_rooms(db, org_id, set(room_days))

    def clear_stale(self, org_id: str, days: Collection[StaleDay]) -> None:
        def keys(kind: StaleKind) -> list[tuple[str, str, int, int]]:
            return [(org_id, d.id, day_number(d.day), d.token) for d in days if d.kind is kind]

        with self.connections.write() as db:
            db.executemany(
                "UPDATE count_buckets SET stale = 0 WHERE org = ? AND sensor = ? AND day = ? AND rev = ?",
                keys(StaleKind.SENSOR),
            )
            db.executemany(
                "DELETE FROM stale_rooms WHERE org = ? AND room = ? AND day = ? AND token = ?", keys(StaleKind.ROOM)
            )
