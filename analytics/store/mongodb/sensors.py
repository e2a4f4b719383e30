"""Sensors and their enrolment on MongoDB.

Tunnel addresses and WireGuard keys are unique where they are given. Sparse unique indexes are not everywhere, so each
such value is claimed first, as a document whose ``_id`` it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from analytics.domain.model import EnrolmentCode, Sensor
from analytics.store.documents import from_json, to_json, truncated
from analytics.store.errors import AlreadyExistsError, NotFoundError
from analytics.store.mongodb.connection import MAX_RACES, Document, mongo, pause, race_lost
from analytics.store.mongodb.part import Part, key

_UNIQUE = ("tunnel_ip", "wireguard_public_key")
# A claim whose sensor does not hold the value was left by a process that died between the two writes.
_ABANDONED = timedelta(minutes=1)


class SensorPart(Part):
    """`analytics.store.base.SensorStore`."""

    @mongo
    def find_sensor(self, sensor_id: str) -> Sensor | None:
        found = self._collection("sensors").find_one({"_id": sensor_id})
        return None if found is None else from_json(Sensor, found["doc"])

    @mongo
    def sensors(self, org_id: str) -> list[Sensor]:
        return [from_json(Sensor, d["doc"]) for d in self._collection("sensors").find({"o": org_id}).sort("_id", 1)]

    @mongo
    def all_sensors(self) -> list[Sensor]:
        return [from_json(Sensor, doc["doc"]) for doc in self._collection("sensors").find().sort("_id", 1)]

    @mongo
    def sensors_on_board(self, org_id: str, board_id: str) -> list[Sensor]:
        found = self._collection("sensors").find({"o": org_id, "board": board_id}).sort("_id", 1)
        return [from_json(Sensor, doc["doc"]) for doc in found]

    @mongo
    def add_sensor(self, sensor: Sensor) -> None:
        if self._collection("sensors").find_one({"_id": sensor.id}, {"_id": 1}):
            raise AlreadyExistsError(f"there is a sensor {sensor.id!r} already")
        claims = self._claim(sensor.id, _claims(sensor))
        try:
            self._collection("sensors").insert_one({"_id": sensor.id, "o": sensor.org_id, "rev": 1, **_fields(sensor)})
        except DuplicateKeyError:
            self._release(sensor.id, claims)
            raise AlreadyExistsError(f"there is a sensor {sensor.id!r} already") from None

    @mongo
    def update_sensor(self, org_id: str, sensor_id: str, change: Callable[[Sensor], Sensor]) -> Sensor:
        sensors = self._collection("sensors")
        for attempt in range(MAX_RACES * 4):
            pause(min(attempt, 3))
            found = sensors.find_one({"_id": sensor_id, "o": org_id})
            if found is None:
                raise NotFoundError(f"organisation {org_id!r} has no sensor {sensor_id!r}")
            before = from_json(Sensor, found["doc"])
            after = change(before)
            if (after.org_id, after.id) != (org_id, sensor_id):
                raise ValueError("a sensor keeps its id and its organisation")
            claims = self._claim(sensor_id, _claims(after) - _claims(before))
            written = sensors.update_one(
                {"_id": sensor_id, "o": org_id, "rev": found["rev"]},
                {"$set": {"rev": found["rev"] + 1, **_fields(after)}},
            )
            if written.matched_count:
                self._release(sensor_id, _claims(before) - _claims(after))
                return after
            self._release(sensor_id, claims)
        raise race_lost("changing a sensor")

    def _claim(self, sensor_id: str, values: Iterable[str]) -> set[str]:
        """Take every value or none. Raises AlreadyExistsError."""
        taken: set[str] = set()
        for value in sorted(values):
            if not self._claim_one(sensor_id, value):
                self._release(sensor_id, taken)
                what = "tunnel address" if value.startswith("tunnel_ip") else "WireGuard public key"
                raise AlreadyExistsError(f"this {what} belongs to another sensor")
            taken.add(value)
        return taken

    def _claim_one(self, sensor_id: str, value: str) -> bool:
        claims, now = self._collection("claims"), datetime.now(UTC)
        try:
            claims.insert_one({"_id": value, "s": sensor_id, "at": now})
        except DuplicateKeyError:
            held = claims.find_one({"_id": value})
            if held is None:
                return self._claim_one(sensor_id, value)
            owner = self.find_sensor(held["s"])
            if (owner is not None and value in _claims(owner)) or now - held["at"] < _ABANDONED:
                return False
            taken_over = claims.update_one(
                {"_id": value, "s": held["s"], "at": held["at"]}, {"$set": {"s": sensor_id, "at": now}}
            )
            return bool(taken_over.matched_count)
        return True

    def _release(self, sensor_id: str, values: Iterable[str]) -> None:
        for value in values:
            self._collection("claims").delete_one({"_id": value, "s": sensor_id})

    @mongo
    def add_enrolment(self, code: EnrolmentCode) -> None:
        try:
            self._collection("enrolments").insert_one(
                {
                    "_id": code.id,
                    "o": code.org_id,
                    "s": code.sensor_id,
                    "secret_hash": code.secret_hash,
                    "verification_hash": code.verification_hash,
                    "expires_at": code.expires_at,
                    "attempts_left": code.attempts_left,
                    "created_at": code.created_at,
                    "activated_at": code.activated_at,
                }
            )
        except DuplicateKeyError:
            raise AlreadyExistsError("there is an enrolment code with this id") from None

    @mongo
    def enrolments(self, org_id: str) -> list[EnrolmentCode]:
        found = self._collection("enrolments").find({"o": org_id}).sort([("created_at", 1), ("_id", 1)])
        return [_code(doc) for doc in found]

    @mongo
    def spend_enrolment_attempt(self, code_id: str, now: datetime) -> EnrolmentCode | None:
        found = self._collection("enrolments").find_one_and_update(
            {"_id": code_id, "attempts_left": {"$gt": 0}, "expires_at": {"$gt": now}, "activated_at": None},
            {"$inc": {"attempts_left": -1}},
            return_document=ReturnDocument.AFTER,
        )
        return None if found is None else _code(found)

    @mongo
    def activate_enrolment(self, code_id: str, now: datetime) -> bool:
        changed = self._collection("enrolments").update_one(
            {"_id": code_id, "expires_at": {"$gt": now}, "activated_at": None},
            {"$set": {"activated_at": truncated(now)}},
        )
        return changed.matched_count == 1

    @mongo
    def remove_enrolments(self, org_id: str, sensor_id: str) -> int:
        return self._collection("enrolments").delete_many({"o": org_id, "s": sensor_id}).deleted_count


def _fields(sensor: Sensor) -> Document:
    """The value, and beside it what is asked for."""
    return {"doc": to_json(sensor), "board": sensor.board}


def _claims(sensor: Sensor) -> set[str]:
    return {key(name, value) for name in _UNIQUE if (value := getattr(sensor, name)) is not None}


def _code(doc: Document) -> EnrolmentCode:
    def moment(name: str) -> Any:
        return None if doc[name] is None else doc[name].astimezone(UTC)

    return EnrolmentCode(
        id=doc["_id"],
        org_id=doc["o"],
        sensor_id=doc["s"],
        secret_hash=doc["secret_hash"],
        expires_at=moment("expires_at"),
        attempts_left=doc["attempts_left"],
        created_at=moment("created_at"),
        verification_hash=doc["verification_hash"],
        activated_at=moment("activated_at"),
    )
