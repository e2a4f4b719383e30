"""Organisations, buildings and rooms in the embedded store."""

from __future__ import annotations

from collections.abc import Iterable

from analytics.domain.model import Building, Organisation, Room
from analytics.store.documents import check_org, from_json, to_json
from analytics.store.errors import NotFoundError
from analytics.store.sqlite.part import Part


class MasterPart(Part):
    """`analytics.store.base.MasterStore`."""

    def organisations(self) -> list[Organisation]:
        with self.connections.read() as db:
            return [from_json(Organisation, doc) for (doc,) in db.execute("SELECT doc FROM organisations ORDER BY org")]

    def organisation(self, org_id: str) -> Organisation:
        with self.connections.read() as db:
            row = db.execute("SELECT doc FROM organisations WHERE org = ?", (org_id,)).fetchone()
        if row is None:
            raise NotFoundError(f"there is no organisation {org_id!r}")
        return from_json(Organisation, row[0])

    def put_organisation(self, organisation: Organisation) -> None:
        with self.connections.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO organisations (org, doc) VALUES (?, ?)",
                (organisation.id, to_json(organisation)),
            )

    def buildings(self, org_id: str) -> list[Building]:
        with self.connections.read() as db:
            rows = db.execute("SELECT doc FROM buildings WHERE org = ? ORDER BY id", (org_id,)).fetchall()
        return [from_json(Building, doc) for (doc,) in rows]

    def put_buildings(self, org_id: str, buildings: Iterable[Building]) -> None:
        kept = list(buildings)
        check_org(org_id, kept)
        with self.connections.write() as db:
            db.executemany(
                "INSERT OR REPLACE INTO buildings (org, id, doc) VALUES (?, ?, ?)",
                [(org_id, building.id, to_json(building)) for building in kept],
            )

    def rooms(self, org_id: str, building_id: str | None = None) -> list[Room]:
        with self.connections.read() as db:
            rows = db.execute(
                "SELECT doc FROM rooms WHERE org = ? AND (? IS NULL OR building = ?) ORDER BY id",
                (org_id, building_id, building_id),
            ).fetchall()
        return [from_json(Room, doc) for (doc,) in rows]

    def room(self, org_id: str, room_id: str) -> Room:
        with self.connections.read() as db:
            row = db.execute("SELECT doc FROM rooms WHERE org = ? AND id = ?", (org_id, room_id)).fetchone()
        if row is None:
            raise NotFoundError(f"organisation {org_id!r} has no room {room_id!r}")
        return from_json(Room, row[0])

    def put_rooms(self, org_id: str, rooms: Iterable[Room]) -> None:
        kept = list(rooms)
        check_org(org_id, kept)
        with self.connections.write() as db:
            db.executemany(
                "INSERT OR REPLACE INTO rooms (org, id, building, doc) VALUES (?, ?, ?, ?)",
                [(org_id, room.id, room.building_id, to_json(room)) for room in kept],
            )
