"""The administrator's orders: to the running service over its own socket, or to the store where none runs.

The embedded store serves one process, and a revocation must end the tunnel peer of the *running* service at once: so
orders go to it. The socket lies in the data folder and opens to its user alone; that is the whole of its protection.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field

from analytics.admin_socket import call, order
from analytics.domain.model import Sensor
from analytics.enrolment import AdministrationError, Enrolment, IssuedCode
from analytics.service_keys import ServiceKeys
from analytics.settings import ServiceSettings
from analytics.store.errors import StoreLockedError
from analytics.web.problems import add_problem_handlers
from uplink.messages import SensorId

if TYPE_CHECKING:
    from analytics.web.portal.core import PortalStore


class NewSensor(BaseModel):
    """The order to add a sensor."""

    model_config = ConfigDict(extra="forbid")

    id: SensorId
    org_id: str = Field(max_length=63)
    name: str = Field("", max_length=200)
    verification: bool = True
    board: SensorId | None = Field(None, description="The sensor on whose board it is a further camera.")


class SensorView(BaseModel):
    """A sensor as the administrator sees it."""

    id: str
    org_id: str
    name: str
    state: str = Field(description="new, enrolled or revoked")
    board: str | None = Field(None, description="Of a further camera: the sensor that holds its board and tunnel.")
    tunnel_ip: str | None
    enrolled_at: datetime | None
    revoked_at: datetime | None

    @classmethod
    def of(cls, sensor: Sensor) -> SensorView:
        state = "revoked" if sensor.revoked_at else "enrolled" if sensor.enrolled_at else "new"
        fields = {name: value for name, value in asdict(sensor).items() if name in cls.model_fields}
        return cls(**fields, state=state)


class CodeView(BaseModel):
    """A code, shown once."""

    sensor_id: str
    code: str = Field(repr=False)
    verification: str | None = Field(repr=False)
    expires_at: datetime
    board: str | None = None

    @classmethod
    def of(cls, issued: IssuedCode) -> CodeView:
        return cls(
            sensor_id=issued.sensor.id,
            code=issued.code,
            verification=issued.verification,
            expires_at=issued.expires_at,
            board=issued.sensor.board,
        )


class Administration(Protocol):
    """What an administrator may order. All raise AdministrationError with the reason."""

    def add(self, sensor: NewSensor) -> CodeView: ...
    def code(self, sensor_id: str, *, verification: bool = True) -> CodeView: ...
    def revoke(self, sensor_id: str, *, with_cameras: bool = False) -> list[SensorView]: ...
    def sensors(self) -> list[SensorView]: ...


class DirectAdministration:
    """Acts on the store of this process."""

    def __init__(self, enrolment: Enrolment) -> None:
        self._enrolment = enrolment

    def add(self, sensor: NewSensor) -> CodeView:
        return CodeView.of(
            self._enrolment.add(
                sensor.id,
                org_id=sensor.org_id,
                name=sensor.name,
                verification=sensor.verification,
                board=sensor.board,
            )
        )

    def code(self, sensor_id: str, *, verification: bool = True) -> CodeView:
        return CodeView.of(self._enrolment.issue(sensor_id, verification=verification))

    def revoke(self, sensor_id: str, *, with_cameras: bool = False) -> list[SensorView]:
        """The sensor, and the further cameras of its board with it."""
        return [SensorView.of(sensor) for sensor in self._enrolment.revoke(sensor_id, with_cameras=with_cameras)]

    def sensors(self) -> list[SensorView]:
        return [SensorView.of(sensor) for sensor in self._enrolment.sensors()]


def create_admin_app(enrolment: Enrolment) -> FastAPI:
    """What listens on the administrator's socket."""
    app = FastAPI(title="Headroom administration", openapi_url=None)
    add_problem_handlers(app)
    direct = DirectAdministration(enrolment)

    @app.get("/sensors")
    async def sensors() -> list[SensorView]:
        found: list[SensorView] = await order(direct.sensors)
        return found

    @app.post("/sensors")
    async def add(sensor: NewSensor) -> CodeView:
        issued: CodeView = await order(direct.add, sensor)
        return issued

    @app.post("/sensors/{sensor_id}/code")
    async def code(sensor_id: str, verification: bool = True) -> CodeView:
        issued: CodeView = await order(direct.code, sensor_id, verification=verification)
        return issued

    @app.post("/sensors/{sensor_id}/revoke")
    async def revoke(sensor_id: str, with_cameras: bool = False) -> list[SensorView]:
        revoked: list[SensorView] = await order(direct.revoke, sensor_id, with_cameras=with_cameras)
        return revoked

    return app


class SocketAdministration:
    """Gives orders to the running service. Raises AdministrationError, ConnectionError when none listens."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, sensor: NewSensor) -> CodeView:
        return CodeView.model_validate(self._call("POST", "/sensors", sensor.model_dump()))

    def code(self, sensor_id: str, *, verification: bool = True) -> CodeView:
        path = f"/sensors/{_name(sensor_id)}/code?verification={str(verification).lower()}"
        return CodeView.model_validate(self._call("POST", path))

    def revoke(self, sensor_id: str, *, with_cameras: bool = False) -> list[SensorView]:
        path = f"/sensors/{_name(sensor_id)}/revoke?with_cameras={str(with_cameras).lower()}"
        answer = self._call("POST", path)
        return [SensorView.model_validate(entry) for entry in answer]

    def sensors(self) -> list[SensorView]:
        return [SensorView.model_validate(entry) for entry in self._call("GET", "/sensors")]

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        return call(self._path, method, path, None if body is None else json.dumps(body))


def _name(sensor_id: str) -> str:
    if not sensor_id or not all(character.isalnum() or character == "-" for character in sensor_id):
        raise AdministrationError(f"{sensor_id!r} is not a sensor's name: lower-case letters, digits and dashes")
    return sensor_id


def service_listens(settings: ServiceSettings) -> bool:
    """Whether a running service takes orders over its socket.

    Raises:
        AdministrationError: one is there and gives no answer.
    """
    if not settings.admin_socket.exists():
        return False
    try:
        SocketAdministration(settings.admin_socket).sensors()
    except (ConnectionError, FileNotFoundError):
        return False  # left by a service that was killed
    return True


def kept_keys(settings: ServiceSettings) -> ServiceKeys:
    """The keys of a service that has been here before: a mistyped folder must not become a second, empty one.

    Raises:
        AdministrationError: no service was ever here.
        KeyFileError: the keys cannot be read.
    """
    if not settings.keys.is_dir():
        raise AdministrationError(f"there is no service in {settings.data} yet; the first `headroom serve` makes it")
    return ServiceKeys.load(settings.keys)


@contextmanager
def own_store(settings: ServiceSettings, keys: ServiceKeys) -> Iterator[PortalStore]:
    """The store in the hands of this process, while no service runs.

    Raises:
        AdministrationError: another process holds it and takes no orders.
        StoreError: it cannot be opened.
    """
    from analytics.runtime import open_store

    try:
        store = open_store(settings, keys)
    except StoreLockedError:
        raise AdministrationError("another process holds the store but does not take orders; wait or end it") from None
    with store:
        yield store


@contextmanager
def open_administration(settings: ServiceSettings) -> Iterator[Administration]:
    """The way to give orders now: the running service when there is one, the store otherwise.

    Raises:
        AdministrationError: another process holds the store and does not listen.
        KeyFileError, StoreError: keys or store cannot be opened.
    """
    from analytics.runtime import ensure_organisation

    if service_listens(settings):
        yield SocketAdministration(settings.admin_socket)
        return
    keys = kept_keys(settings)
    with own_store(settings, keys) as store:
        ensure_organisation(store, settings)
        yield DirectAdministration(Enrolment(store, keys, settings))
