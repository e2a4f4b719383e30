"""The wire contract: what is a record, what is a batch, and what the decoder says to everything else."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

from uplink.codec import BatchError, decode_batch, encode_batch
from uplink.messages import MAX_BATCH_BYTES, MAX_RECORDS_PER_BATCH, Batch, BatchAnswer, CountRecord, Health
from uplink.schema import MODELS, document, text

Make = Callable[..., CountRecord]
GOOD = {"sensor_id": "hall-3", "start": "2026-11-22T07:00:00Z", "present": 3, "present_max": 4, "coverage": 1.0}


def body(*records: object, **more: object) -> bytes:
    return json.dumps({"schema": 1, "records": list(records), **more}).encode()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"sensor_id": "Hall 3"}, "sensor_id"),
        ({"sensor_id": "-hall"}, "sensor_id"),
        ({"sensor_id": "a" * 64}, "sensor_id"),
        ({"sensor_id": "hall\n"}, "sensor_id"),
        ({"start": "2026-11-22T07:00:00"}, "start"),
        ({"start": "2026-11-22T07:00:01Z"}, "start"),
        ({"start": "2026-11-22T07:00:00.5Z"}, "start"),
        ({"start": "9999-12-31T23:59:00-10:00"}, "start"),
        ({"start": "1969-12-31T23:59:00Z"}, "start"),
        ({"seconds": 0}, "seconds"),
        ({"seconds": 3601}, "seconds"),
        ({"seconds": 60.0}, "seconds"),
        ({"present": -1}, "present"),
        ({"present": 5}, "present"),
        ({"present": True}, "present"),
        ({"present": 2.5}, "present"),
        ({"present": None}, "present"),
        ({"present_max": None}, "present"),
        ({"present_max": 100_001}, "present_max"),
        ({"entered": -1}, "entered"),
        ({"entered": "1"}, "entered"),
        ({"coverage": 1.01}, "coverage"),
        ({"coverage": 0.0}, "present"),
        ({"health": []}, "health"),
        ({"health": ["ok", "dark"]}, "health"),
        ({"health": ["tired"]}, "health"),
    ],
)
def test_a_bad_record_rejects_itself_with_its_place_and_names_the_field(change: dict[str, object], field: str) -> None:
    decoded = decode_batch(body(GOOD, {**GOOD, **change}, GOOD))
    assert decoded.indexes == [0, 2]
    (rejection,) = decoded.rejected
    assert rejection.index == 1
    assert field in rejection.reason
    assert "Value error" not in rejection.reason
    assert decoded.total == 3


def test_unknown_newer_fields_are_ignored() -> None:
    decoded = decode_batch(body({**GOOD, "mood": {"deep": [1]}}, seal="x"))
    assert decoded.records == [CountRecord.model_validate(GOOD)]


def test_an_unknown_newer_schema_is_refused_whole_with_what_to_do() -> None:
    with pytest.raises(BatchError, match="update the service") as caught:
        decode_batch(json.dumps({"schema": 2, "records": [{"people": 4}]}).encode())
    assert caught.value.status == 422


def test_a_missing_schema_is_the_first_one() -> None:
    assert decode_batch(json.dumps({"records": [GOOD]}).encode()).total == 1


@pytest.mark.parametrize(
    ("data", "encoding", "status"),
    [
        (b"", "", 400),
        (b"[]", "", 400),
        (b"{}", "", 400),
        (b'{"records": {}}', "", 400),
        (b'{"records": [], "schema": "1"}', "", 400),
        (b'{"records": [], "schema": true}', "", 400),
        (b'{"records": [], "schema": 0}', "", 400),
        (b"[" * 500_000, "", 400),
        (b"\xff\xfe", "", 400),
        (b"{}", "gzip", 400),
        (b"{}", "br", 415),
        (gzip.compress(body())[:-3], "gzip", 400),
        (gzip.compress(body()) + b"more", "gzip", 400),
        (gzip.compress(body()) * 2, "gzip", 400),
        (b" " * (MAX_BATCH_BYTES + 1), "", 413),
        (gzip.compress(b" " * (MAX_BATCH_BYTES + 1)), "gzip", 413),
        (body(*[0] * (MAX_RECORDS_PER_BATCH + 1)), "", 413),
    ],
)
def test_what_is_no_batch_is_refused_with_its_status(data: bytes, encoding: str, status: int) -> None:
    with pytest.raises(BatchError) as caught:
        decode_batch(data, encoding)
    assert caught.value.status == status


def test_a_bomb_costs_no_more_memory_than_the_bound() -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(100)) + packer.flush()
    assert len(bomb) < MAX_BATCH_BYTES
    tracemalloc.start()
    with pytest.raises(BatchError):
        decode_batch(bomb, "gzip")
    assert tracemalloc.get_traced_memory()[1] < 4 * MAX_BATCH_BYTES
    tracemalloc.stop()


def test_records_of_another_sensor_are_rejected_by_their_place(record: Make) -> None:
    decoded = decode_batch(encode_batch([record(0), record(1, "hall-4"), record(2)]), "gzip", sensor_id="hall-3")
    assert decoded.indexes == [0, 2]
    assert [(each.index, "sensor_id" in each.reason) for each in decoded.rejected] == [(1, True)]


def test_the_same_records_always_give_the_same_bytes(record: Make) -> None:
    faults = frozenset({Health.DARK, Health.MOVED, Health.NO_SIGNAL, Health.BLOCKED})
    records = [record(0).model_copy(update={"health": faults}), record(1)]
    assert encode_batch(records) == encode_batch([each.model_copy() for each in records])
    assert b'["blocked","dark","moved","no_signal"]' in gzip.decompress(encode_batch(records))


def test_a_full_batch_of_the_longest_records_is_within_the_bounds(record: Make) -> None:
    longest = CountRecord(
        sensor_id="a" * 63,
        start=datetime(2199, 12, 31, 23, 0, tzinfo=UTC),
        seconds=3600,
        present=100_000,
        present_max=100_000,
        entered=100_000,
        left=100_000,
        coverage=0.12345678901234567,
        health=frozenset(set(Health) - {Health.OK}),
    )
    sent = encode_batch([longest] * MAX_RECORDS_PER_BATCH)
    assert len(gzip.decompress(sent)) < MAX_BATCH_BYTES
    assert decode_batch(sent, "gzip").total == MAX_RECORDS_PER_BATCH
    with pytest.raises(ValueError, match="1001"):
        encode_batch([longest] * (MAX_RECORDS_PER_BATCH + 1))


def test_time_is_utc_whatever_the_zone_it_came_in() -> None:
    amsterdam = timezone(timedelta(hours=1))
    record = CountRecord(sensor_id="a", start=datetime(2026, 11, 22, 8, 0, tzinfo=amsterdam), coverage=1.0)
    assert record.start == datetime(2026, 11, 22, 7, 0, tzinfo=UTC)
    assert record.start.utcoffset() == timedelta(0)


def test_an_answer_names_a_record_once() -> None:
    with pytest.raises(ValidationError, match="twice"):
        BatchAnswer.model_validate(
            {"new": 0, "duplicate": 0, "conflicting": 0, "rejected": [{"index": 1, "reason": ""}] * 2}
        )


@pytest.mark.parametrize("name", MODELS)
def test_the_published_schema_is_current(name: str) -> None:
    published = Path(__file__).parents[2] / "docs/schema" / name
    assert published.read_text("utf-8") == text(MODELS[name]), "run: python -m uplink.schema docs/schema"


def test_the_published_schema_fits_what_is_sent(record: Make) -> None:
    jsonschema.Draft202012Validator.check_schema(document(Batch))
    sent = json.loads(gzip.decompress(encode_batch([record(minute) for minute in range(20)])))
    jsonschema.Draft202012Validator(document(Batch)).validate(sent)
