"""The door for counts: who gets in, what is stored, and that every refusal is a problem document."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from analytics.domain.model import CountOutcome
from analytics.ingest.committer import CommitterBusyError, GroupCommitter
from analytics.ingest.limits import RateLimiter
from analytics.settings import Limits, TunnelSettings
from analytics.store.errors import StoreUnavailableError
from tests.analytics.service_parts import PATH, Bench, bench, from_address, record
from uplink.codec import encode_batch
from uplink.keys import MasterKeyRing, SensorKey, unwrap_next_key
from uplink.messages import MAX_BATCH_BYTES, BatchAnswer, CountRecord
from uplink.sealing import SEALED_TYPE, SealKeyRing, SegmentSealer, encode_sealed_batch
from uplink.signing import ANSWER_HEADER, NEXT_KEY_HEADER, verify_answer


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Bench]:
    with bench(tmp_path) as parts:
        yield parts


def problem(answer: Any, status: int) -> str:
    """The kind of a problem document, after checking that it is one."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    return str(document["type"]).removeprefix("urn:headroom:problem:")


# -- what is stored


def test_new_duplicate_and_conflicting(service: Bench) -> None:
    key = service.sensor()
    first = service.post(key, [record(minute=0), record(minute=1)])
    assert first.json() == {"new": 2, "duplicate": 0, "conflicting": 0, "rejected": []}
    second = service.post(key, [record(minute=1), record(minute=2), record(minute=0, present=5)])
    assert second.json() == {"new": 1, "duplicate": 1, "conflicting": 1, "rejected": []}
    assert service.stored() == [(0, 4), (1, 4), (2, 4)]  # the first value stays


def test_a_bad_record_rejects_itself_and_not_its_batch(service: Bench) -> None:
    key = service.sensor()
    good, bad = record(minute=0).model_dump(mode="json"), record(minute=1).model_dump(mode="json")
    bad["present"] = -4
    other = record("hall-4", minute=2).model_dump(mode="json")
    body = json.dumps({"schema": 1, "records": [bad, good, other, "nonsense"], "newer_field": 1}).encode()
    answer = BatchAnswer.model_validate(service.post(key, body, encoding="identity").json())
    assert (answer.new, [entry.index for entry in answer.rejected]) == (1, [0, 2, 3])
    assert "present" in answer.rejected[0].reason
    assert "signed" in answer.rejected[1].reason
    assert service.stored() == [(0, 4)]
    assert service.stored("hall-4") == []


def test_sealed_batches_are_opened(service: Bench) -> None:
    key = service.sensor()
    sealer = SegmentSealer("hall-3", service.services.keys.seal.public_key)
    body = encode_sealed_batch([(sealer.header, [sealer.seal(record(minute=at)) for at in range(5)])])
    answer = service.post(key, body, content_type=SEALED_TYPE, encoding="")
    assert answer.json()["new"] == 5
    assert len(service.stored()) == 5
    elsewhere = SegmentSealer("hall-3", SealKeyRing.create().public_key)
    body = encode_sealed_batch([(elsewhere.header, [elsewhere.seal(record(minute=9))])])
    refused = service.post(key, body, content_type=SEALED_TYPE, encoding="")
    assert problem(refused, 409) == "unknown-seal-key"
    assert ANSWER_HEADER in refused.headers


# -- who gets in


def test_a_wrong_key_an_unknown_a_new_and_a_revoked_sensor_look_alike(service: Bench) -> None:
    key = service.sensor()
    texts = set()
    forged = SensorKey("hall-3", 1, b"\x05" * 32)
    unknown = MasterKeyRing.create().sensor_key("hall-9")
    assert unknown is not None
    blank = service.sensor("hall-5")
    service.store.update_sensor("default", "hall-5", lambda sensor: replace(sensor, enrolled_at=None))
    for intruder in (unknown, blank):
        answer = service.post(intruder, [record(intruder.sensor_id)])
        assert problem(answer, 401) == "not-proven"
        texts.add(answer.text)
    assert service.post(key, [record()]).status_code == 200
    service.services.enrolment.revoke("hall-3")
    answer = service.post(key, [record(minute=1)])
    texts.add(answer.text)
    assert problem(answer, 401) == "not-proven"
    assert ANSWER_HEADER not in answer.headers
    assert len(texts) == 1
    assert problem(service.post(forged, [record(minute=1)]), 401) == "not-proven"
    assert service.stored() == [(0, 4)]


@pytest.mark.parametrize("change", ["body", "type", "encoding", "signature", "sensor", "path", "generation", "none"])
def test_nothing_of_a_signed_request_can_be_changed(service: Bench, change: str) -> None:
    key = service.sensor()
    service.sensor("hall-4")
    body = encode_batch([record()])
    claim = service.claim(key, body)
    headers = {"Authorization": claim.header(), "Content-Type": "application/json", "Content-Encoding": "gzip"}
    path = PATH
    match change:
        case "body":
            body = encode_batch([record(present=5)])
        case "type":
            headers["Content-Type"] = "application/json; charset=utf-8"
        case "encoding":
            headers["Content-Encoding"] = "identity"
        case "signature":
            headers["Authorization"] = replace(claim, signature=claim.signature[::-1]).header()
        case "sensor":
            headers["Authorization"] = replace(claim, sensor_id="hall-4").header()
        case "path":
            path = PATH + "?x=1"
        case "generation":
            headers["Authorization"] = replace(claim, generation=2).header()
        case _:
            del headers["Authorization"]
    assert problem(service.client.post(path, content=body, headers=headers), 401) == "not-proven"
    assert service.stored() == []


def test_a_replayed_request_and_a_wrong_clock(service: Bench) -> None:
    key = service.sensor()
    body = encode_batch([record()])
    claim = service.claim(key, body)
    headers = {"Authorization": claim.header(), "Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert service.client.post(PATH, content=body, headers=headers).status_code == 200
    assert problem(service.client.post(PATH, content=body, headers=headers), 401) == "replayed"

    late = service.claim(key, body, now=time.time() - 4_000)
    answer = service.client.post(PATH, content=body, headers={**headers, "Authorization": late.header()})
    assert problem(answer, 401) == "clock-skew"
    told = verify_answer(key, late, answer.headers[ANSWER_HEADER], status=401, body=answer.content)
    assert abs(told - time.time()) < 5  # the sensor may believe this time: it is signed


def test_an_older_generation_is_handed_its_next_key(tmp_path: Path) -> None:
    with bench(tmp_path) as parts:
        key = parts.sensor()
        door = parts.services.door
        door._master = door._master.rotated()
        answer = parts.post(key, [record()])
        assert answer.status_code == 200
        newer = unwrap_next_key(key, answer.headers[NEXT_KEY_HEADER])
        assert newer == door._master.sensor_key("hall-3")
        after = parts.post(newer, [record(minute=1)])
        assert NEXT_KEY_HEADER not in after.headers
        door._master = door._master.without(1)
        assert problem(parts.post(key, [record(minute=2)]), 401) == "not-proven"


def test_only_through_the_tunnel_or_on_loopback(tmp_path: Path) -> None:
    tunnel = TunnelSettings.model_validate({"address": "10.77.0.1/24", "endpoint": "192.0.2.1:51820"})
    with bench(tmp_path, tunnel=tunnel) as parts:
        key = parts.sensor(tunnel_ip="10.77.0.2")
        other = parts.sensor("hall-4", tunnel_ip="10.77.0.3")
        inside = from_address(parts, "10.77.0.2", "10.77.0.1")
        assert parts.post(key, [record()], client=inside).status_code == 200
        assert problem(parts.post(other, [record("hall-4")], client=inside), 403) == "wrong-tunnel-address"
        outside = from_address(parts, "198.51.100.9", "198.51.100.1")
        assert problem(parts.post(key, [record(minute=1)], client=outside), 403) == "outside-the-tunnel"
        # Linux takes packets for the tunnel's address from any interface: the sender's address must fit too.
        spoofed = from_address(parts, "198.51.100.9", "10.77.0.1")
        assert problem(parts.post(key, [record(minute=1)], client=spoofed), 403) == "outside-the-tunnel"
        assert parts.post(key, [record(minute=1)]).status_code == 200  # loopback
        assert len(parts.stored()) == 2
        assert parts.stored("hall-4") == []


# -- limits


def test_bodies_are_bounded_before_they_are_read(service: Bench) -> None:
    key = service.sensor()
    large = b"\0" * (MAX_BATCH_BYTES + 1)
    assert problem(service.post(key, large, encoding="identity"), 413) == "too-large"

    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield b"\0" * 65_536

    claim = service.claim(key, b"")
    headers = {"Authorization": claim.header(), "Content-Type": "application/json"}
    assert problem(service.client.post(PATH, content=chunks(), headers=headers), 413) == "too-large"


@pytest.mark.parametrize(
    ("body", "content_type", "encoding", "status"),
    [
        (b"{", "application/json", "", 400),
        (b"[]", "application/json", "identity", 400),
        (b"{}", "application/json", "", 400),
        (b"x", "application/json", "gzip", 400),
        (b"{}", "application/json", "br", 415),
        (b"{}", "text/plain", "", 415),
        (b"x", SEALED_TYPE, "", 400),
        (b"x", SEALED_TYPE, "gzip", 415),
        (b'{"schema": 2, "records": []}', "application/json", "", 422),
        (json.dumps({"records": [0] * 1001}).encode(), "application/json", "", 413),
    ],
)
def test_what_is_no_batch(service: Bench, body: bytes, content_type: str, encoding: str, status: int) -> None:
    answer = service.post(service.sensor(), body, content_type=content_type, encoding=encoding)
    problem(answer, status)
    assert ANSWER_HEADER in answer.headers  # the sensor can trust what it is told


def test_one_sensor_cannot_flood_and_a_stranger_cannot_guess(tmp_path: Path) -> None:
    limits = Limits(sensor_burst=3, sensor_rate=0.01, stranger_burst=2, stranger_rate=0.01)
    with bench(tmp_path, limits=limits) as parts:
        key, quiet = parts.sensor(), parts.sensor("hall-4")
        for minute in range(3):
            assert parts.post(key, [record(minute=minute)]).status_code == 200
        answer = parts.post(key, [record(minute=3)])
        assert problem(answer, 429) == "too-many-requests"
        assert 1 <= int(answer.headers["retry-after"]) <= 100
        assert parts.post(quiet, [record("hall-4")]).status_code == 200
        stranger = from_address(parts, "198.51.100.9")
        forged = SensorKey("hall-4", 1, b"\x05" * 32)
        kinds = [parts.post(forged, [record("hall-4", 1)], client=stranger) for _ in range(3)]
        assert [answer.status_code for answer in kinds] == [401, 401, 429]
        # Forging a sensor's name costs that sensor nothing.
        assert parts.post(quiet, [record("hall-4", 2)]).status_code == 200
        # Behind a proxy on this machine all come from one address: strangers there do not shut sensors out.
        proxied = from_address(parts, "127.0.0.1")
        assert [parts.post(forged, [record("hall-4", 1)], client=proxied).status_code for _ in range(3)][-1] == 429
        assert parts.post(parts.sensor("hall-5"), [record("hall-5")], client=proxied).status_code == 200


def test_the_rate_limiter_forgets_the_longest_silent() -> None:
    now = [0.0]
    limiter = RateLimiter(1.0, 2, most=2, monotonic=lambda: now[0])
    assert [limiter.take("a") for _ in range(3)] == [0.0, 0.0, 1.0]
    now[0] = 1.0
    assert limiter.wait("a") == 0.0
    assert limiter.take("a") == 0.0
    limiter.take("b")
    limiter.take("c")
    assert limiter.take("a") == 0.0  # pushed out, so a new bucket


# -- problems elsewhere, health, the document


def test_every_error_is_a_problem_document(service: Bench) -> None:
    assert problem(service.client.get("/nothing"), 404) == "about:blank"
    assert problem(service.client.get(PATH), 405) == "about:blank"
    assert problem(service.client.post("/v1/enrolment", json={"code": "x"}), 422) == "not-valid"
    assert service.client.get("/healthz").json() == {"status": "ok"}


def test_an_unforeseen_error_tells_nothing(service: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(sensor_id: str) -> None:
        raise RuntimeError("the secret is 42")

    key = service.sensor()
    monkeypatch.setattr(service.store, "find_sensor", broken)
    answer = service.post(key, [record()])
    problem(answer, 500)
    assert "42" not in answer.text


def test_the_openapi_document_names_all_that_can_happen(service: Bench) -> None:
    document = service.client.get("/openapi.json").json()
    operation = document["paths"][PATH]["post"]
    assert set(operation["requestBody"]["content"]) == {"application/json", SEALED_TYPE}
    assert {"200", "400", "401", "403", "409", "413", "415", "422", "429", "503"} <= set(operation["responses"])
    assert operation["security"] == [{"sensorSignature": []}]
    assert {"Batch", "CountRecord", "Health", "BatchAnswer", "Problem"} <= set(document["components"]["schemas"])


# -- group commit


class SlowStore:
    """A store whose write waits until it is let go."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.calls: list[int] = []
        self.fail: Exception | None = None

    def ingest(self, org_id: str, records: list[CountRecord], received_at: datetime) -> list[CountOutcome]:
        self.calls.append(len(records))
        self.gate.wait(10)
        if self.fail is not None:
            raise self.fail
        if any(entry.entered == 13 for entry in records):
            raise RuntimeError("unlucky")
        return [CountOutcome.NEW if entry.start.minute % 2 else CountOutcome.DUPLICATE for entry in records]


def test_what_waits_is_written_together_and_everyone_gets_their_own_answer() -> None:
    store = SlowStore()
    committer = GroupCommitter(store, waiting_records=1_000)  # type: ignore[arg-type]

    async def scenario() -> list[Any]:
        tasks = [asyncio.create_task(committer.ingest("a", [record(minute=0)]))]
        while not store.calls:
            await asyncio.sleep(0.001)
        unlucky = record(minute=2, entered=13)
        for batch in ([record(minute=1), record(minute=2)], [unlucky], [record(minute=3)]):
            tasks.append(asyncio.create_task(committer.ingest("a", batch)))
        await asyncio.sleep(0)
        with pytest.raises(CommitterBusyError):
            await committer.ingest("a", [record(minute=1)] * 1_000)
        gone = asyncio.create_task(committer.ingest("a", [record(minute=5)]))
        await asyncio.sleep(0)
        gone.cancel()
        store.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(scenario())
    assert results[0] == [CountOutcome.DUPLICATE]
    assert results[1] == [CountOutcome.NEW, CountOutcome.DUPLICATE]
    assert isinstance(results[2], RuntimeError)  # its neighbours did not suffer
    assert results[3] == [CountOutcome.NEW]
    assert store.calls[:2] == [1, 5]

    store.fail = StoreUnavailableError("disk full")
    with pytest.raises(StoreUnavailableError):
        asyncio.run(committer.ingest("a", [record()]))
    committer.close()
    with pytest.raises(StoreUnavailableError):
        asyncio.run(committer.ingest("a", [record()]))


def test_a_store_that_cannot_answer_is_503_and_nothing_is_acknowledged(
    service: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = service.sensor()

    def full(*arguments: Any) -> None:
        raise StoreUnavailableError("database or disk is full")

    monkeypatch.setattr(service.store, "ingest", full)
    answer = service.post(key, [record()])
    assert problem(answer, 503) == "store-unavailable"
    assert int(answer.headers["retry-after"]) >= 1
    monkeypatch.undo()
    assert service.post(key, [record()]).json()["new"] == 1
