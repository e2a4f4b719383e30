"""Fuzzing of every decoder of the uplink: never a crash, never an accepted forgery, and two ways that agree."""

from __future__ import annotations

import contextlib
import gzip
import json
import tempfile
import zlib
from datetime import UTC, datetime
from pathlib import Path

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from uplink.backoff import http_date, retry_after
from uplink.codec import BatchError, _one_by_one, decode_batch, encode_batch
from uplink.keyfiles import KeyFileError
from uplink.keys import MasterKeyRing, SensorKey, parse_key_lines, unwrap_next_key
from uplink.messages import BatchAnswer, CountRecord, Health
from uplink.sealing import (
    FRAME_BYTES,
    SealError,
    SealKeyRing,
    SegmentHeader,
    SegmentSealer,
    encode_sealed_batch,
    open_sealed_batch,
)
from uplink.segment import SegmentFile
from uplink.signing import SignatureError, parse_authorization, sign_request, verify_request
from uplink.spool import Spool
from uplink.spoolstate import SpoolState, load_state, save_state

SENSOR = "hall-3"
SEALS = SealKeyRing({1: bytes(range(1, 33))})
KEY = MasterKeyRing({1: bytes(range(32))}).sensor_key(SENSOR)
# In-process work only, but the machine may be busy: no deadlines.
QUICK = settings(max_examples=100, deadline=None)


@st.composite
def count_records(draw: st.DrawFn) -> CountRecord:
    seconds = draw(st.sampled_from([1, 60, 300, 900, 3600]))
    slot = draw(st.integers(0, 7_000_000_000 // seconds))
    present_max = draw(st.none() | st.integers(0, 100_000))
    faults = draw(st.frozensets(st.sampled_from(sorted(set(Health) - {Health.OK}))))
    return CountRecord(
        sensor_id=SENSOR,
        start=datetime.fromtimestamp(slot * seconds, UTC),
        seconds=seconds,
        present=None if present_max is None else draw(st.integers(0, present_max)),
        present_max=present_max,
        entered=draw(st.integers(0, 100_000)),
        left=draw(st.integers(0, 100_000)),
        coverage=draw(st.floats(0.001 if present_max is not None else 0, 1)),
        health=faults or frozenset({Health.OK}),
    )


CLAIM = (
    r"Headroom-HMAC-SHA256 sensor=[a-z-]{1,5},generation=\d+,time=\d+,"
    r"nonce=[0-9a-f]{32},signature=[0-9a-f]{64}"
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
almost_records = st.fixed_dictionaries(
    {},
    optional={
        "sensor_id": json_values | st.just(SENSOR),
        "start": json_values
        | st.just("2026-11-22T07:00:00Z")
        | st.datetimes().map(lambda moment: moment.isoformat() + "Z"),
        "seconds": json_values | st.just(60),
        "present": json_values | st.integers(0, 9),
        "present_max": json_values | st.integers(9, 20),
        "entered": json_values | st.integers(0, 5),
        "left": json_values | st.integers(0, 5),
        "coverage": json_values | st.floats(0, 1),
        "health": json_values | st.lists(st.sampled_from([*Health, "x"]), max_size=3),
        "more": json_values,
    },
)


@QUICK
@given(st.lists(count_records(), max_size=8))
def test_json_and_sealed_batches_bring_back_exactly_what_was_put_in(records: list[CountRecord]) -> None:
    assert decode_batch(encode_batch(records), "gzip", SENSOR).records == records
    sealer = SegmentSealer(SENSOR, SEALS.public_key)
    frames = [sealer.seal(record) for record in records]
    body = encode_sealed_batch([(sealer.header, frames)] if frames else [])
    assert open_sealed_batch(SEALS, body, SENSOR).records == records


@QUICK
@given(st.binary(max_size=400), st.sampled_from(["", "gzip", "identity", "br", " GZIP "]))
def test_any_bytes_are_a_batch_or_a_batch_error(body: bytes, encoding: str) -> None:
    for data in (body, gzip.compress(body), b'{"records":' + body + b"}"):
        with contextlib.suppress(BatchError):
            decode_batch(data, encoding, SENSOR)


@QUICK
@given(st.lists(almost_records | json_values, max_size=5), json_values | st.just(1))
def test_almost_batches_are_sorted_and_both_ways_agree(entries: list[object], version: object) -> None:
    data = json.dumps({"schema": version, "records": entries}).encode()
    try:
        decoded = decode_batch(data)
    except BatchError:
        return
    assert decoded.total == len(entries)
    assert sorted(decoded.indexes + [each.index for each in decoded.rejected]) == list(range(len(entries)))
    slow = _one_by_one(data)
    assert (slow.records, slow.indexes) == (decoded.records, decoded.indexes)
    BatchAnswer(new=len(decoded.records), duplicate=0, conflicting=0, rejected=decoded.rejected)


@QUICK
@given(st.binary(max_size=600), st.integers(0, 3))
def test_any_bytes_are_a_sealed_batch_or_a_batch_error(body: bytes, count: int) -> None:
    sealer = SegmentSealer(SENSOR, SEALS.public_key)
    for data in (
        body,
        b"HRBATCH\x01" + body,
        b"HRBATCH\x01" + bytes([count, 0]) + sealer.header.encode() + body,
    ):
        with contextlib.suppress(BatchError):
            assert not open_sealed_batch(SEALS, data, SENSOR).records


@QUICK
@given(count_records(), st.integers(0, 8 * (10 + 256 + 2 + 2 * FRAME_BYTES) - 1), st.data())
def test_no_change_of_a_sealed_batch_is_accepted(record: CountRecord, bit: int, data: st.DataObject) -> None:
    """Also with checksums made to fit: what comes out is what was put in, or nothing."""
    sealer = SegmentSealer(SENSOR, SEALS.public_key)
    body = bytearray(encode_sealed_batch([(sealer.header, [sealer.seal(record), sealer.seal(record)])]))
    body[bit // 8] ^= 1 << bit % 8
    if data.draw(st.booleans()):
        _fit_checksums(body)
    try:
        decoded = open_sealed_batch(SEALS, bytes(body), SENSOR)
    except BatchError:
        return
    assert all(each == record for each in decoded.records)
    assert decoded.total <= 2


def _fit_checksums(body: bytearray) -> None:
    for begin, end in ((10, 266), (268, 332), (332, 396)):
        body[end - 4 : end] = zlib.crc32(body[begin : end - 4]).to_bytes(4, "little")


@QUICK
@given(st.binary(min_size=256, max_size=256))
def test_any_header_is_a_header_or_a_seal_error(blob: bytes) -> None:
    with contextlib.suppress(SealError):
        SegmentHeader.decode(blob)


@QUICK
@given(st.text(max_size=200) | st.from_regex(CLAIM))
def test_any_authorization_header_is_a_claim_or_an_error_and_never_proven(header: str) -> None:
    try:
        claim = parse_authorization(header)
        verify_request(KEY, claim, method="POST", path="/", body=b"", now=claim.time)
    except SignatureError:
        return
    raise AssertionError("a forgery was accepted")


@QUICK
@given(st.text(max_size=30), st.text(max_size=30), st.binary(max_size=30), st.text(max_size=30))
def test_a_signature_fits_what_was_signed_and_nothing_that_looks_alike(
    method: str, path: str, body: bytes, content_type: str
) -> None:
    claim = sign_request(KEY, method=method, path=path, body=body, content_type=content_type, now=1_790_000_000)
    verify_request(KEY, claim, method=method, path=path, body=body, content_type=content_type, now=1_790_000_000)
    for shifted in ({"path": path + "x"}, {"content_type": content_type + " "}, {"content_encoding": "x"}):
        given_ = {"method": method, "path": path, "content_type": content_type, **shifted}
        with contextlib.suppress(SignatureError):
            verify_request(KEY, claim, body=body, now=1_790_000_000, **given_)
            raise AssertionError("a forgery was accepted")


@QUICK
@given(st.binary(max_size=120))
def test_any_text_is_a_key_or_a_key_error(data: bytes) -> None:
    with contextlib.suppress(KeyFileError):
        parse_key_lines(data, "x", most=4)
    with contextlib.suppress(KeyFileError):
        SensorKey.from_text(SENSOR, data)
    with contextlib.suppress(KeyFileError):
        unwrap_next_key(KEY, data.decode("latin-1"))
        raise AssertionError("a forgery was accepted")


@QUICK
@given(st.text(max_size=60))
def test_any_text_is_a_date_a_wait_or_nothing(text: str) -> None:
    http_date(text)
    assert 0 <= retry_after(text, 1_790_000_000) <= 3_600


@QUICK
@given(st.binary(max_size=200) | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_answer_is_an_answer_or_an_error(body: bytes) -> None:
    with contextlib.suppress(ValidationError):
        BatchAnswer.model_validate_json(body)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.integers(0, 1_200), st.binary(min_size=1, max_size=80)), max_size=6),
    st.integers(0, 1_200),
    st.binary(max_size=300),
)
def test_any_folder_opens_as_a_spool(patches: list[tuple[int, bytes]], size: int, state: bytes) -> None:
    """Random bytes over a segment and its state: it opens, sends, and what the service takes is what was counted."""
    records = [CountRecord(sensor_id=SENSOR, start=datetime.fromtimestamp(60 * i, UTC), coverage=1) for i in range(9)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sealer = SegmentSealer(SENSOR, SEALS.public_key)
        data = bytearray(sealer.header.encode() * 2 + b"".join(sealer.seal(record) for record in records))
        for place, patch in patches:
            data[place : place + len(patch)] = patch
        (folder / "0000000001.segment").write_bytes(data[: size or None])
        (folder / "2.segment").write_bytes(state)
        (folder / "x.segment").write_bytes(state)
        (folder / "state.json").write_bytes(state)
        SegmentFile(folder / "0000000001.segment")
        with Spool(folder, SENSOR, SEALS.public_key) as spool:
            batch = spool.next_batch()
            if batch is not None:
                decoded = open_sealed_batch(SEALS, batch.body, SENSOR)
                assert all(each in records for each in decoded.records)
            assert spool.append([records[0]])


@QUICK
@given(
    st.dictionaries(st.binary(min_size=16, max_size=16), st.sets(st.integers(0, 500)), max_size=4),
    st.binary(max_size=9),
)
def test_the_state_comes_back_or_is_empty(segments: dict[bytes, set[int]], noise: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        written = {identity: (501, done) for identity, done in segments.items()}
        save_state(folder, SpoolState(segments=dict(written)))
        assert load_state(folder).segments == written
        path = folder / "state.json"
        spoiled = noise + path.read_bytes()[len(noise) :]
        assume(spoiled != path.read_bytes())
        path.write_bytes(spoiled)
        assert load_state(folder).segments == {}
