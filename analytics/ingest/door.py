"""What happens to one ``POST /v1/counts``, free of any web framework.

The order is chosen so that a stranger costs little: the header first, then the body within its bounds, then the proof;
only what is proven is decoded, and only what is durable is acknowledged. Every answer to a proven request is signed.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import ParamSpec, Protocol, TypeVar

from analytics.domain.model import CountOutcome, Sensor
from analytics.ingest.committer import CommitterBusyError, GroupCommitter
from analytics.ingest.limits import RateLimiter
from analytics.settings import Limits
from analytics.store.base import CountStore, SensorStore
from analytics.store.errors import StoreError
from analytics.web.problems import PROBLEM_TYPE, ProblemError
from uplink.codec import JSON_TYPE, BatchError, DecodedBatch, decode_batch
from uplink.keys import MasterKeyRing, SensorKey, wrap_next_key
from uplink.messages import MAX_BATCH_BYTES, BatchAnswer
from uplink.sealing import SEALED_TYPE, SealKeyRing, open_sealed_batch
from uplink.signing import (
    ANSWER_HEADER,
    NEXT_KEY_HEADER,
    SCHEME,
    ClockSkewError,
    ReplayError,
    ReplayGuard,
    RequestSignature,
    SignatureError,
    parse_authorization,
    sign_answer,
    verify_request,
)

logger = logging.getLogger(__name__)

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


P = ParamSpec("P")
T = TypeVar("T")


class IngestStore(SensorStore, CountStore, Protocol):
    """What the door needs of a store."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as it came in. Header names in lower case; `path` holds the query where there is one."""

    path: str
    headers: Mapping[str, str]
    client: IPAddress | None
    local: IPAddress | None  # the address of ours that it came in by
    body: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Departure:
    """The answer to an arrival."""

    status: int
    body: bytes
    media_type: str
    headers: dict[str, str] = field(default_factory=dict)


Serve = Callable[[Arrival, Sensor, bytes], bytes]
"""Something else that a proven sensor may bring: from request, sensor and body to the answer's body."""


class IngestDoor:
    """Takes batches of proven sensors into the store."""

    def __init__(
        self,
        store: IngestStore,
        master: MasterKeyRing,
        seal: SealKeyRing,
        *,
        limits: Limits | None = None,
        tunnel: IPNetwork | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits or Limits()
        self._store = store
        self._master = master
        self._seal = seal
        self._tunnel = tunnel
        self._clock = clock
        self._committer = GroupCommitter(store, waiting_records=self.limits.waiting_records)
        # Two threads: a full batch takes milliseconds to decode, a lone record must not wait behind it on the loop.
        self._workers = ThreadPoolExecutor(2, thread_name_prefix="ingest")
        self._replays = ReplayGuard()
        self._sensors = RateLimiter(self.limits.sensor_rate, self.limits.sensor_burst)
        self._strangers = RateLimiter(self.limits.stranger_rate, self.limits.stranger_burst)

    def close(self) -> None:
        """Write what was taken in and end the threads."""
        self._workers.shutdown(wait=True, cancel_futures=True)
        self._committer.close()

    async def take(self, arrival: Arrival, serve: Serve | None = None) -> Departure:
        """Answer one request. Raises ProblemError for everything that is not proven.

        Args:
            serve: what is done for the proven sensor, in a worker; default: counts are taken in.
        """
        self._check_way(arrival)
        caller = str(arrival.client)
        # Behind a proxy on this machine all callers share one address: there, proof comes before the limit.
        if (arrival.client is None or not arrival.client.is_loopback) and (wait := self._strangers.wait(caller)):
            raise _too_many_failures(wait)
        try:
            claim = parse_authorization(arrival.headers.get("authorization"))
            body = await self._read(arrival)
            key, sensor = await self._prove(arrival, claim, body)
        except SignatureError as error:
            if wait := self._strangers.take(caller):
                raise _too_many_failures(wait) from None
            raise ProblemError(401, "not-proven", str(error), headers={"WWW-Authenticate": SCHEME}) from None
        status, answer, headers = await self._serve(arrival, sensor, body, serve)
        headers[ANSWER_HEADER] = sign_answer(key, claim, status=status, body=answer, now=self._clock())
        if (newer := self._next_key(key)) is not None:
            headers[NEXT_KEY_HEADER] = newer
        return Departure(status, answer, JSON_TYPE if status == 200 else PROBLEM_TYPE, headers)

    # -- who is it

    def _check_way(self, arrival: Arrival) -> None:
        """Counts come through the tunnel or from this machine itself, whatever else listens here."""
        local, client = arrival.local, arrival.client
        if local is None or local.is_loopback:
            return
        # The sender's address too: Linux takes packets for the tunnel's address from any interface.
        if self._tunnel is not None and local in self._tunnel and client is not None and client in self._tunnel:
            return
        raise ProblemError(403, "outside-the-tunnel", "counts are taken through the tunnel and on loopback alone")

    async def _read(self, arrival: Arrival) -> bytes:
        declared = arrival.headers.get("content-length", "")
        if declared.isdigit() and len(declared) < 19 and int(declared) > MAX_BATCH_BYTES:
            raise _too_large()
        content = bytearray()
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                async for chunk in arrival.body:
                    content += chunk
                    if len(content) > MAX_BATCH_BYTES:
                        raise _too_large()
        except TimeoutError:
            raise ProblemError(
                408, "too-slow", "the body did not arrive in time", headers={"Connection": "close"}
            ) from None
        return bytes(content)

    async def _prove(self, arrival: Arrival, claim: RequestSignature, body: bytes) -> tuple[SensorKey, Sensor]:
        sensor, board = await self._in_worker(self._find, claim.sensor_id)
        key = self._master.sensor_key(claim.sensor_id, claim.generation)
        if not _in_service(sensor) or not _in_service(board):
            key = None
        now = self._clock()
        try:
            verify_request(
                key,
                claim,
                method="POST",
                path=arrival.path,
                body=body,
                now=now,
                content_type=arrival.headers.get("content-type", ""),
                content_encoding=arrival.headers.get("content-encoding", ""),
            )
            self._replays.check(claim, now)
        except ClockSkewError as error:
            assert key is not None
            raise self._skewed(key, claim, error) from None
        except ReplayError as error:
            raise ProblemError(401, "replayed", str(error)) from None
        assert key is not None
        assert sensor is not None
        assert board is not None
        self._check_address(arrival, sensor, board)
        return key, sensor

    def _find(self, sensor_id: str) -> tuple[Sensor | None, Sensor | None]:
        """A sensor and the one that holds its board: itself, unless it is a further camera."""
        sensor = self._store.find_sensor(sensor_id)
        if sensor is None or sensor.board is None:
            return sensor, sensor
        board = self._store.find_sensor(sensor.board)
        if board is not None and (board.org_id != sensor.org_id or board.board is not None):
            board = None  # no such board can be made; a store that says so is not believed
        return sensor, board

    def _skewed(self, key: SensorKey, claim: RequestSignature, error: ClockSkewError) -> ProblemError:
        problem = ProblemError(401, "clock-skew", str(error))
        signed = sign_answer(key, claim, status=401, body=problem.body(), now=self._clock())
        problem.headers[ANSWER_HEADER] = signed  # the sensor learns the time from it
        return problem

    def _check_address(self, arrival: Arrival, sensor: Sensor, board: Sensor) -> None:
        """Through the tunnel WireGuard has proven the address: it must be that of this sensor's board."""
        client = arrival.client
        if self._tunnel is None or client is None or client not in self._tunnel or client == arrival.local:
            return
        if board.tunnel_ip is None or client != ipaddress.ip_address(board.tunnel_ip):
            logger.warning("sensor %s signed a request from the tunnel address %s of another", sensor.id, client)
            raise ProblemError(403, "wrong-tunnel-address", "this tunnel address belongs to another sensor's board")

    # -- what does it bring

    async def _serve(
        self, arrival: Arrival, sensor: Sensor, body: bytes, serve: Serve | None
    ) -> tuple[int, bytes, dict[str, str]]:
        try:
            if wait := self._sensors.take(sensor.id):
                raise ProblemError(429, "too-many-requests", "this sensor sends too often; wait", retry_after=wait)
            if serve is not None:
                return 200, await self._in_worker(serve, arrival, sensor, body), {}
            batch = await self._in_worker(self._decode, arrival.headers, body, sensor.id)
            answer = await self._store_batch(sensor, batch)
        except ProblemError as problem:
            return problem.status, problem.body(), problem.headers
        return 200, answer.model_dump_json().encode(), {}

    def _decode(self, headers: Mapping[str, str], body: bytes, sensor_id: str) -> DecodedBatch:
        media_type = headers.get("content-type", "").partition(";")[0].strip().lower()
        encoding = headers.get("content-encoding", "")
        try:
            if media_type == JSON_TYPE:
                return decode_batch(body, encoding, sensor_id)
            if media_type == SEALED_TYPE:
                if encoding.strip().lower() not in ("", "identity"):
                    raise BatchError(415, "unknown-encoding", "a sealed batch is not compressed")
                return open_sealed_batch(self._seal, body, sensor_id)
        except BatchError as error:
            raise ProblemError(error.status, error.kind, error.detail) from None
        raise ProblemError(415, "unknown-type", f"Content-Type is neither {JSON_TYPE} nor {SEALED_TYPE}")

    async def _store_batch(self, sensor: Sensor, batch: DecodedBatch) -> BatchAnswer:
        outcomes: list[CountOutcome] = []
        if batch.records:
            try:
                outcomes = await self._committer.ingest(sensor.org_id, batch.records)
            except CommitterBusyError as error:
                raise ProblemError(503, "busy", str(error), retry_after=2) from None
            except StoreError:
                raise ProblemError(
                    503, "store-unavailable", "nothing was acknowledged; try again", retry_after=5
                ) from None
        conflicts = outcomes.count(CountOutcome.CONFLICT)
        if conflicts:
            logger.warning("sensor %s: %d records differ from what is stored; both are kept", sensor.id, conflicts)
        return BatchAnswer(
            new=outcomes.count(CountOutcome.NEW),
            duplicate=outcomes.count(CountOutcome.DUPLICATE),
            conflicting=conflicts,
            rejected=batch.rejected,
        )

    def _next_key(self, key: SensorKey) -> str | None:
        if key.generation >= self._master.current:
            return None
        newer = self._master.sensor_key(key.sensor_id)
        return None if newer is None else wrap_next_key(key, newer)

    async def _in_worker(self, call: Callable[P, T], *arguments: P.args, **_: P.kwargs) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._workers, call, *arguments)
        except StoreError as error:
            logger.error("the store cannot answer: %s", error)
            raise ProblemError(503, "store-unavailable", "the store cannot answer; try again", retry_after=5) from None


def _in_service(sensor: Sensor | None) -> bool:
    return sensor is not None and sensor.revoked_at is None and sensor.enrolled_at is not None


def _too_many_failures(wait: float) -> ProblemError:
    return ProblemError(429, "too-many-failures", "too many requests without proof; wait", retry_after=wait)


def _too_large() -> ProblemError:
    detail = f"the body is larger than {MAX_BATCH_BYTES} bytes: send fewer records"
    return ProblemError(413, "too-large", detail, headers={"Connection": "close"})
