"""A service inside the test's own process: real store, real keys, and a sensor that signs."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from analytics.domain.model import Organisation, Sensor
from analytics.enrolment import Enrolment, RefusedError
from analytics.service_keys import ServiceKeys
from analytics.settings import ServiceSettings
from analytics.store.sqlite import SqliteStore
from analytics.web.app import Services, create_app
from analytics.web.portal.core import PortalStore
from uplink.codec import JSON_TYPE, encode_batch
from uplink.enrolment import BoardProof, EnrolmentCode, EnrolmentGrant, EnrolmentRequest, SensorHello
from uplink.keyfiles import decode_key
from uplink.keys import SensorKey
from uplink.messages import CountRecord
from uplink.noise import Initiator
from uplink.signing import ANSWER_HEADER, RequestSignature, sign_request, verify_answer
from uplink.wgkeys import PrivateKey

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
PATH = "/v1/counts"


def record(sensor_id: str = "hall-3", minute: int = 0, **changes: Any) -> CountRecord:
    values: dict[str, Any] = {"present": 4, "present_max": 6, "entered": 2, "left": 1, "coverage": 1.0}
    return CountRecord(sensor_id=sensor_id, start=START + timedelta(minutes=minute), **{**values, **changes})


@dataclass
class Bench:
    """The parts of one service and a client that speaks to it."""

    services: Services
    store: PortalStore
    client: TestClient

    def sensor(self, sensor_id: str = "hall-3", **fields: Any) -> SensorKey:
        now = datetime.now(UTC)
        self.store.add_sensor(Sensor("default", sensor_id, created_at=now, enrolled_at=now, **fields))
        key = self.services.keys.master.sensor_key(sensor_id)
        assert key is not None
        return key

    def post(
        self,
        key: SensorKey,
        body: bytes | list[CountRecord],
        *,
        content_type: str = JSON_TYPE,
        encoding: str = "gzip",
        now: float | None = None,
        headers: dict[str, str] | None = None,
        client: TestClient | None = None,
    ) -> httpx.Response:
        content = body if isinstance(body, bytes) else encode_batch(body)
        claim = self.claim(key, content, content_type, encoding, now)
        sent = {"Authorization": claim.header(), "Content-Type": content_type, "Content-Encoding": encoding}
        answer = (client or self.client).post(PATH, content=content, headers={**sent, **(headers or {})})
        if answer.status_code == 200:
            verify_answer(key, claim, answer.headers[ANSWER_HEADER], status=200, body=answer.content)
        return answer

    def claim(
        self,
        key: SensorKey,
        body: bytes,
        content_type: str = JSON_TYPE,
        encoding: str = "gzip",
        now: float | None = None,
    ) -> RequestSignature:
        return sign_request(
            key,
            method="POST",
            path=PATH,
            body=body,
            now=time.time() if now is None else now,
            content_type=content_type,
            content_encoding=encoding,
        )

    def stored(self, sensor_id: str = "hall-3") -> list[tuple[int, int]]:
        """(minute since START, present) of what is in the store."""
        slots = self.store.counts("default", [sensor_id], START, START + timedelta(days=60))[sensor_id]
        return [((int(slot["start"]) - int(START.timestamp())) // 60, int(slot["present"])) for slot in slots]


@contextmanager
def bench(folder: Path, **settings: Any) -> Iterator[Bench]:
    """A service in `folder`, spoken to in-process."""
    keys = ServiceKeys.create()
    with SqliteStore.open(folder / "headroom.db", keys.store) as store, bench_on(store, folder, keys, **settings) as it:
        yield it


@contextmanager
def bench_on(store: PortalStore, folder: Path, keys: ServiceKeys | None = None, **settings: Any) -> Iterator[Bench]:
    """The same on a store of the test's own, of whatever kind."""
    chosen = ServiceSettings(data=folder, **settings)
    store.put_organisation(Organisation("default", "default"))
    services = Services.build(chosen, store, keys or ServiceKeys.create())
    app = create_app(chosen, store, services)
    with TestClient(app, base_url="http://127.0.0.1:8400", raise_server_exceptions=False) as client:
        yield Bench(services, store, client)
    services.close()


def from_address(parts: Bench, client: str, server: str = "127.0.0.1") -> TestClient:
    """A client that comes from another address, or to another of ours."""
    return TestClient(
        parts.client.app, base_url=f"http://{server}:8400", client=(client, 4242), raise_server_exceptions=False
    )


class Blank:
    """A blank sensor that knocks with a code; with a board's key: a further camera of that board."""

    def __init__(
        self, enrolment: Enrolment, code: str, key: PrivateKey | None = None, board: SensorKey | None = None
    ) -> None:
        self.code = EnrolmentCode.parse(code)
        self.key = key or PrivateKey.generate()
        self.board = None if board is None else BoardProof.make(board, self.code.id, self.code.verifier())
        service_key = decode_key(enrolment.hello().service_key, "service_key")
        self._enrolment = enrolment
        self._exchange = Initiator(self.code.private_key(), service_key, self.code.prologue())

    def request(self, verification: str | None, public: str | None = None) -> EnrolmentRequest:
        wireguard = (public or str(self.key.public)) if self.board is None else None
        hello = SensorHello(wireguard_public_key=wireguard, verification=verification or "", board=self.board)
        message = base64.b64encode(self._exchange.write(hello.model_dump_json().encode())).decode()
        return EnrolmentRequest(code=self.code.id, message=message)

    def knock(self, verification: str | None = None, public: str | None = None) -> EnrolmentGrant:
        answer = self._enrolment.activate(self.request(verification, public))
        return EnrolmentGrant.model_validate_json(self._exchange.read(base64.b64decode(answer.message)))


def refused(blank: Blank, verification: str | None = None, public: str | None = None) -> str:
    """The kind of problem with which the service refuses it."""
    with pytest.raises(RefusedError) as caught:
        blank.knock(verification, public)
    return caught.value.kind
