"""Fuzzing from the OpenAPI document and below it: never a 500, never a crash, never an accepted forgery."""

from __future__ import annotations

import gzip
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.settings import Limits
from tests.analytics.service_parts import PATH, Bench, bench, record
from uplink.codec import encode_batch
from uplink.enrolment import ENROLMENT_PATH
from uplink.keys import SensorKey
from uplink.messages import BatchAnswer
from uplink.sealing import SEALED_TYPE, SegmentSealer, encode_sealed_batch
from uplink.signing import SCHEME, sign_request

OPEN = Limits(sensor_burst=10**9, sensor_rate=10**9, stranger_burst=10**9, stranger_rate=10**9)
ANSWERS = {200, 400, 401, 403, 408, 409, 413, 415, 422, 429, 503}
BOUNDED = settings(
    max_examples=400 if os.environ.get("HEADROOM_LONG") else 25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module")
def service() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as folder, bench(Path(folder), limits=OPEN) as parts:
        parts.sensor()
        yield parts


@pytest.fixture(scope="module")
def key(service: Bench) -> SensorKey:
    found = service.services.keys.master.sensor_key("hall-3")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def api_schema(service: Bench) -> Any:
    return schemathesis.openapi.from_asgi("/openapi.json", service.client.app)


@pytest.mark.parametrize(
    ("method", "path"), [("POST", PATH), ("GET", ENROLMENT_PATH), ("POST", ENROLMENT_PATH), ("GET", "/healthz")]
)
@BOUNDED
@given(data=st.data())
def test_the_document_is_kept_to(api_schema: Any, method: str, path: str, data: st.DataObject) -> None:
    """As a stranger calls them: documented statuses, types and shapes alone."""
    case = data.draw(api_schema[path][method].as_strategy())
    case.call_and_validate(base_url="http://127.0.0.1:8400")


def test_every_operation_of_the_data_path_is_fuzzed(api_schema: Any) -> None:
    document = api_schema.raw_schema["paths"]
    ours = {path for path in document if path.startswith(("/v1/counts", "/v1/enrolment", "/healthz"))}
    assert ours == {PATH, ENROLMENT_PATH, "/healthz"}


def check(answer: Any) -> None:
    assert answer.status_code in ANSWERS, (answer.status_code, answer.text)
    if answer.status_code == 200:
        BatchAnswer.model_validate(answer.json())
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code


@pytest.fixture(scope="module")
def batches(api_schema: Any) -> Any:
    """A strategy for bodies, made from the document."""
    return api_schema[PATH]["POST"].as_strategy()


@BOUNDED
@given(data=st.data())
def test_bodies_of_the_document_with_a_right_signature(
    service: Bench, key: SensorKey, batches: Any, data: st.DataObject
) -> None:
    body = data.draw(batches).body
    content = body if isinstance(body, bytes) else json.dumps(body, default=str).encode()
    packed = data.draw(st.booleans())
    check(service.post(key, gzip.compress(content) if packed else content, encoding="gzip" if packed else "identity"))


@BOUNDED
@given(
    content=st.binary(max_size=300),
    content_type=st.sampled_from(["application/json", SEALED_TYPE, "", "text/plain", "application/json; charset=x"]),
    encoding=st.sampled_from(["", "gzip", "identity", "br", "gzip, gzip"]),
)
def test_bytes_with_a_right_signature(
    service: Bench, key: SensorKey, content: bytes, content_type: str, encoding: str
) -> None:
    check(service.post(key, content, content_type=content_type, encoding=encoding))


@BOUNDED
@given(data=st.data())
def test_damaged_batches_with_a_right_signature(service: Bench, key: SensorKey, data: st.DataObject) -> None:
    """Bytes changed, cut off or doubled anywhere in what would be right."""
    sealer = SegmentSealer("hall-3", service.services.keys.seal.public_key)
    sealed = encode_sealed_batch([(sealer.header, [sealer.seal(record(minute=at)) for at in range(3)])])
    content_type, encoding, body = data.draw(
        st.sampled_from([("application/json", "gzip", encode_batch([record()])), (SEALED_TYPE, "", sealed)])
    )
    place = data.draw(st.integers(0, len(body) - 1))
    changed = data.draw(
        st.sampled_from(
            [body[:place], body[:place] + bytes([body[place] ^ 255]) + body[place + 1 :], body + body, body[place:]]
        )
    )
    check(service.post(key, changed, content_type=content_type, encoding=encoding))


@BOUNDED
@given(
    header=st.one_of(
        st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=200),
        st.builds(
            lambda sensor, generation, sent, nonce, signature: (
                f"{SCHEME} sensor={sensor},generation={generation},time={sent},nonce={nonce},signature={signature}"
            ),
            st.sampled_from(["hall-3", "hall-4", "", "x" * 70, "../etc"]),
            st.sampled_from(["1", "0", "2", "9" * 7, "9" * 30, "-1"]),
            st.sampled_from([str(int(time.time())), "0", "9" * 12, "9" * 40]),
            st.sampled_from(["0" * 32, "zz", "0" * 31]),
            st.sampled_from(["0" * 64, "f" * 64, "0" * 63, "x" * 64]),
        ),
    )
)
def test_no_header_is_a_forgery_that_passes(service: Bench, header: str) -> None:
    before = service.stored()
    headers = {"Authorization": header.encode("latin-1"), "Content-Type": "application/json"}
    answer = service.client.post(PATH, content=b'{"records": []}', headers=headers)  # type: ignore[arg-type]
    assert answer.status_code == 401
    check(answer)
    assert service.stored() == before


@BOUNDED
@given(secret=st.binary(min_size=32, max_size=32), generation=st.integers(1, 3), minute=st.integers(50_000, 60_000))
def test_no_other_key_signs_for_a_sensor(
    service: Bench, key: SensorKey, secret: bytes, generation: int, minute: int
) -> None:
    if secret == key.secret:
        return
    forged = SensorKey("hall-3", generation, secret)
    assert service.post(forged, [record(minute=minute)]).status_code == 401
    assert all(stored != minute for stored, _ in service.stored())


@BOUNDED
@given(data=st.data())
def test_no_character_of_a_signed_header_can_be_changed(service: Bench, key: SensorKey, data: st.DataObject) -> None:
    body = encode_batch([record(minute=70_000)])
    claim = sign_request(
        key,
        method="POST",
        path=PATH,
        body=body,
        now=time.time(),
        content_type="application/json",
        content_encoding="gzip",
    )
    header = claim.header()
    place = data.draw(st.integers(len(SCHEME) + 1, len(header) - 1))
    character = data.draw(st.sampled_from("0123456789abcdefx,= "))
    changed = header[:place] + character + header[place + 1 :]
    if changed == header:
        return
    headers = {"Authorization": changed, "Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert service.client.post(PATH, content=body, headers=headers).status_code == 401
    assert all(stored != 70_000 for stored, _ in service.stored())
