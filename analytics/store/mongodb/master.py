"""Organisations, buildings and rooms on MongoDB."""

from __future__ import annotations

from collections.abc import Iterable

from analytics.domain.model import Building, Organisation, Room
from analytics.store.documents import check_org, from_json, to_json
from analytics.store.errors import NotFoundError
from analytics.store.mongodb.connection import mongo
from analytics.store.mongodb.part import Part, key, replace_all


class MasterPart(Part):
    """`analytics.store.base.MasterStore`."""

    @mongo
    def organisations(self) -> list[Organisation]:
        found = self._collection("organisations").find().sort("_id", 1)
        return [from_json(Organisation, doc["doc"]) for doc in found]

    @mongo
    def organisation(self, org_id: str) -> Organisation:
        found = self._collection("organisations").find_one({"_id": org_id})
        if found is None:
            raise NotFoundError(f"there is no organisation {org_id!r}")
        return from_json(Organisation, found["doc"])

    @mongo
    def put_organisation(self, organisation: Organisation) -> None:
        replace_all(self._collection("organisations"), [{"_id": key(organisation.id), "doc": to_json(organisation)}])

    @mongo
    def buildings(self, org_id: str) -> list[Building]:
        found = self._collection("buildings").find({"o": org_id}).sort("i", 1)
        return [from_json(Building, doc["doc"]) for doc in found]

    @mongo
    def put_buildings(self, org_id: str, buildings: Iterable[Building]) -> None:
        kept = list(buildings)
        check_org(org_id, kept)
        replace_all(
            self._collection("buildings"),
            [{"_id": key(org_id, b.id), "o": org_id, "i": b.id, "doc": to_json(b)} for b in kept],
        )

    @mongo
    def rooms(self, org_id: str, building_id: str | None = None) -> list[Room]:
        condition = {"o": org_id} if building_id is None else {"o": org_id, "building": building_id}
        return [from_json(Room, doc["doc"]) for doc in self._collection("rooms").find(condition).sort("i", 1)]

    @mongo
    def room(self, org_id: str, room_id: str) -> Room:
        found = self._collection("rooms").find_one({"_id": key(org_id, room_id), "o": org_id})
        if found is None:
            raise NotFoundError(f"organisation {org_id!r} has no room {room_id!r}")
        return from_json(Room, found["doc"])

    @mongo
    def put_rooms(self, org_id: str, rooms: Iterable[Room]) -> None:
        kept = list(rooms)
        check_org(org_id, kept)
        replace_all(
            self._collection("rooms"),
            [
                {"_id": key(org_id, r.id), "o": org_id, "i": r.id, "building": r.building_id, "doc": to_json(r)}
                for r in kept
            ],
        )
