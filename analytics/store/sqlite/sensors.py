"""Sensors and their enrolment in the embedded store."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlcipher3 import dbapi2 as sqlcipher

from analytics.domain.model import EnrolmentCode, Sensor
from analytics.store.documents import from_json, from_ms, to_json, to_ms
from analytics.store.errors import AlreadyExistsError, NotFoundError
from analytics.store.sqlite.part import Part

_CODE = "id, org, sensor, secret_hash, expires_at, attempts_left, created_at, verification_hash, activated_at"


class SensorPart(Part):
    """`analytics.store.base.SensorStore`."""

    def find_sensor(self, sensor_id: str) -> Sensor | None:
        with self.connections.read() as db:
            row = db.execute("SELECT doc FROM sensors WHERE id = ?", (sensor_id,)).fetchone()
        return None if row is None else from_json(Sensor, row[0])

    def sensors(self, org_id: str) -> list[Sensor]:
        with self.connections.read() as db:
            rows = db.execute("SELECT doc FROM sensors WHERE org = ? ORDER BY id", (org_id,)).fetchall()
        return [from_json(Sensor, doc) for (doc,) in rows]

    def all_sensors(self) -> list[Sensor]:
        with self.connections.read() as db:
            return [from_json(Sensor, doc) for (doc,) in db.execute("SELECT doc FROM sensors ORDER BY id")]

    def sensors_on_board(self, org_id: str, board_id: str) -> list[Sensor]:
        with self.connections.read() as db:
            rows = db.execute(
                "SELECT doc FROM sensors WHERE org = ? AND board = ? ORDER BY id", (org_id, board_id)
            ).fetchall()
        return [from_json(Sensor, doc) for (doc,) in rows]

    def add_sensor(self, sensor: Sensor) -> None:
        with self.connections.write() as db:
            try:
                db.execute(
                    "INSERT INTO sensors (id, org, tunnel_ip, wireguard_public_key, board, doc) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    (sensor.id, sensor.org_id, *_columns(sensor)),
                )
            except sqlcipher.IntegrityError as error:
                raise _taken(sensor, error) from None

    def update_sensor(self, org_id: str, sensor_id: str, change: Callable[[Sensor], Sensor]) -> Sensor:
        with self.connections.write() as db:
            row = db.execute("SELECT doc FROM sensors WHERE org = ? AND id = ?", (org_id, sensor_id)).fetchone()
            if row is None:
                raise NotFoundError(f"organisation {org_id!r} has no sensor {sensor_id!r}")
            sensor = change(from_json(Sensor, row[0]))
            if (sensor.org_id, sensor.id) != (org_id, sensor_id):
                raise ValueError("a sensor keeps its id and its organisation")
            try:
                db.execute(
                    "UPDATE sensors SET tunnel_ip = ?, wireguard_public_key = ?, board = ?, doc = ? "
                    "WHERE org = ? AND id = ?",
                    (*_columns(sensor), org_id, sensor_id),
                )
            except sqlcipher.IntegrityError as error:
                raise _taken(sensor, error) from None
        return sensor

    def add_enrolment(self, code: EnrolmentCode) -> None:
        with self.connections.write() as db:
            try:
                db.execute(
                    f"INSERT INTO enrolments ({_CODE}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
                    (
                        code.id,
                        code.org_id,
                        code.sensor_id,
                        code.secret_hash,
                        to_ms(code.expires_at),
                        code.attempts_left,
                        to_ms(code.created_at),
                        code.verification_hash,
                        None if code.activated_at is None else to_ms(code.activated_at),
                    ),
                )
            except sqlcipher.IntegrityError:
                raise AlreadyExistsError("there is an enrolment code with this id") from None

    def enrolments(self, org_id: str) -> list[EnrolmentCode]:
        with self.connections.read() as db:
            rows = db.execute(
                f"SELECT {_CODE} FROM enrolments WHERE org = ? ORDER BY created_at, id",  # noqa: S608
                (org_id,),
            ).fetchall()
        return [_code(row) for row in rows]

    def spend_enrolment_attempt(self, code_id: str, now: datetime) -> EnrolmentCode | None:
        with self.connections.write() as db:
            row = db.execute(
                "UPDATE enrolments SET attempts_left = attempts_left - 1 WHERE id = ? AND attempts_left > 0 "  # noqa: S608
                f"AND expires_at > ? AND activated_at IS NULL RETURNING {_CODE}",
                (code_id, to_ms(now)),
            ).fetchone()
        return None if row is None else _code(row)

    def activate_enrolment(self, code_id: str, now: datetime) -> bool:
        with self.connections.write() as db:
            changed: int = db.execute(
                "UPDATE enrolments SET activated_at = ? WHERE id = ? AND activated_at IS NULL AND expires_at > ?",
                (to_ms(now), code_id, to_ms(now)),
            ).rowcount
        return changed == 1

    def remove_enrolments(self, org_id: str, sensor_id: str) -> int:
        with self.connections.write() as db:
            removed: int = db.execute(
                "DELETE FROM enrolments WHERE org = ? AND sensor = ?", (org_id, sensor_id)
            ).rowcount
        return removed


def _columns(sensor: Sensor) -> tuple[str | None, ...]:
    """Tunnel address, WireGuard key, board and document."""
    return sensor.tunnel_ip, sensor.wireguard_public_key, sensor.board, to_json(sensor)


def _code(row: Any) -> EnrolmentCode:
    code_id, org, sensor, secret_hash, expires_at, attempts_left, created_at, verification_hash, activated_at = row
    return EnrolmentCode(
        id=code_id,
        org_id=org,
        sensor_id=sensor,
        secret_hash=secret_hash,
        expires_at=from_ms(expires_at),
        attempts_left=attempts_left,
        created_at=from_ms(created_at),
        verification_hash=verification_hash,
        activated_at=None if activated_at is None else from_ms(activated_at),
    )


def _taken(sensor: Sensor, error: Exception) -> AlreadyExistsError:
    if "tunnel_ip" in str(error):
        return AlreadyExistsError(f"tunnel address {sensor.tunnel_ip} belongs to another sensor")
    if "wireguard_public_key" in str(error):
        return AlreadyExistsError("this WireGuard public key belongs to another sensor")
    return AlreadyExistsError(f"there is a sensor {sensor.id!r} already")
