"""Batches as bytes: canonical JSON, gzip, and a decoder that trusts nothing.

A valid batch of 1,000 records is decoded by pydantic's Rust core in one go. Only when that fails, each record is looked
at alone, so that a bad record rejects itself, with its place and the reason, and not its batch.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pydantic_core
from pydantic import ValidationError

from uplink.messages import (
    MAX_BATCH_BYTES,
    MAX_RECORDS_PER_BATCH,
    SCHEMA_VERSION,
    Batch,
    CountRecord,
    Rejection,
)

JSON_TYPE = "application/json"


class BatchError(Exception):
    """The whole batch is refused.

    Attributes:
        status: HTTP status: 400 not a batch, 413 too large, 415 unknown encoding, 422 newer schema.
        kind: short name of the problem, for the problem document's type.
        detail: what is wrong and what to do; safe to show.
    """

    def __init__(self, status: int, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.kind = kind
        self.detail = detail


@dataclass(frozen=True, slots=True)
class DecodedBatch:
    """What a body holds: good records, where each stood in the batch, and what was refused."""

    records: list[CountRecord]
    indexes: list[int]
    rejected: list[Rejection] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Records in the batch, good and bad."""
        return len(self.records) + len(self.rejected)


def encode_batch(records: Sequence[CountRecord]) -> bytes:
    """Canonical JSON, gzip: the same records give the same bytes.

    Raises:
        ValueError: more than 1,000 records.
    """
    if len(records) > MAX_RECORDS_PER_BATCH:
        raise ValueError(f"records: {len(records)} in one batch; at most {MAX_RECORDS_PER_BATCH}")
    body = Batch(records=list(records)).model_dump_json(by_alias=True).encode()
    return gzip.compress(body, compresslevel=6, mtime=0)


def decode_batch(body: bytes, content_encoding: str = "", sensor_id: str | None = None) -> DecodedBatch:
    """Read the body of ``POST /v1/counts``.

    Args:
        body: as received.
        content_encoding: the request's header: ``gzip``, ``identity`` or empty.
        sensor_id: whose signature the request bears; records of others are rejected.

    Raises:
        BatchError: too large, not a batch, or of a newer schema. Nothing else, whatever the bytes.
    """
    data = _plain(body, content_encoding)
    try:
        records = Batch.model_validate_json(data).records
    except ValidationError:
        decoded = _one_by_one(data)
    else:
        decoded = DecodedBatch(records, list(range(len(records))))
    if sensor_id is None or all(record.sensor_id == sensor_id for record in decoded.records):
        return decoded
    return _only_own(decoded, sensor_id)


def describe(error: ValidationError) -> str:
    """The first fault of a record in one line: field and reason, nothing of the input but what our checks repeat."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    reason = first["msg"].removeprefix("Value error, ")
    text = f"{place}: {reason}" if place else reason
    return text[:500]


def _plain(body: bytes, content_encoding: str) -> bytes:
    if len(body) > MAX_BATCH_BYTES:
        raise BatchError(
            413, "too-large", f"the body has {len(body)} bytes; at most {MAX_BATCH_BYTES}: send fewer records"
        )
    encoding = content_encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise BatchError(415, "unknown-encoding", "Content-Encoding is neither gzip nor identity")
    return _gunzip(body)


def _gunzip(body: bytes) -> bytes:
    """Decompress without ever holding more than the bound: a bomb costs its sender's bytes and no more."""
    stream = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        data = stream.decompress(body, MAX_BATCH_BYTES + 1)
    except zlib.error:
        raise BatchError(400, "not-gzip", "the body is not gzip") from None
    if len(data) > MAX_BATCH_BYTES:
        raise BatchError(
            413, "too-large", f"the body is more than {MAX_BATCH_BYTES} bytes when unpacked: send fewer records"
        )
    if not stream.eof or stream.unused_data:
        raise BatchError(400, "not-gzip", "the body is not one whole gzip member")
    return data


def _one_by_one(data: bytes) -> DecodedBatch:
    try:
        content: Any = pydantic_core.from_json(data, cache_strings=False)
    except ValueError:
        raise BatchError(400, "not-json", "the body is not JSON") from None
    if not isinstance(content, dict):
        raise BatchError(400, "not-a-batch", "the body is not a JSON object with `schema` and `records`")
    version = content.get("schema", SCHEMA_VERSION)
    if type(version) is not int or version < 1:
        raise BatchError(400, "not-a-batch", "schema: not a whole number from 1")
    if version > SCHEMA_VERSION:
        raise BatchError(
            422,
            "newer-schema",
            f"schema: this service reads up to version {SCHEMA_VERSION}; update the service before the sensors",
        )
    entries = content.get("records")
    if not isinstance(entries, list):
        raise BatchError(400, "not-a-batch", "records: not a list")
    if len(entries) > MAX_RECORDS_PER_BATCH:
        raise BatchError(
            413, "too-many-records", f"records: {len(entries)}; at most {MAX_RECORDS_PER_BATCH} in one batch"
        )
    decoded = DecodedBatch([], [])
    for index, entry in enumerate(entries):
        try:
            record = CountRecord.model_validate(entry)
        except ValidationError as error:
            decoded.rejected.append(Rejection(index=index, reason=describe(error)))
        else:
            decoded.records.append(record)
            decoded.indexes.append(index)
    return decoded


def _only_own(decoded: DecodedBatch, sensor_id: str) -> DecodedBatch:
    own = DecodedBatch([], [], list(decoded.rejected))
    for index, record in zip(decoded.indexes, decoded.records, strict=True):
        if record.sensor_id == sensor_id:
            own.records.append(record)
            own.indexes.append(index)
        else:
            own.rejected.append(Rejection(index=index, reason="sensor_id: not the sensor that signed the request"))
    own.rejected.sort(key=lambda rejection: rejection.index)
    return own
