"""Records sealed to the service's public key, so that the sensor cannot read its own backlog after a restart.

A *segment* is a run of up to 2^32 frames under one random key. The key lives in the RAM of the process that made it and
nowhere else; the segment's header holds it sealed to the service's X25519 key (ephemeral X25519, HKDF-SHA256,
ChaCha20-Poly1305). Nonces are the frame's number under a key that is used by one process once: no restart, power cut or
restored disk image can bring the same key and nonce together again.

Header, 256 bytes::

    magic 8 | segment id 16 | seal key id 8 | ephemeral public key 32 | sensor id 64 | sealed key 48 | zeros | CRC-32 4

Frame, 64 bytes, whatever is in it: its length does not tell how many people there were::

    number u32 | ciphertext 40 | tag 16 | CRC-32 u32

The CRC lets a sensor without the key see what its disk has damaged; the tag lets the service see what anyone changed.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from pydantic import ValidationError

from uplink.codec import BatchError, DecodedBatch, describe
from uplink.keyfiles import encode_key, find_secret, write_atomic
from uplink.keys import derive, parse_key_lines
from uplink.messages import MAX_BATCH_BYTES, MAX_RECORDS_PER_BATCH, CountRecord, Health, Rejection

SEALED_TYPE = "application/vnd.headroom.sealed"
SEAL_KEY_FILE = "seal.key"
HEADER_BYTES = 256
FRAME_BYTES = 64

_MAGIC = b"HRSPOOL\x01"
_BATCH_MAGIC = b"HRBATCH\x01"
_HEADER = struct.Struct("<8s16s8s32s64s48s")
_RECORD = struct.Struct("<qHHiiIId4x")
_HEALTH = tuple(Health)  # a bit each, in this order: a new state goes to the end of the enumeration
_ZERO_NONCE = bytes(12)


class SealError(Exception):
    """A header or frame does not open: damaged, forged, or sealed to another key."""


class UnknownSealKeyError(SealError):
    """Sealed to a key that this ring does not hold: perhaps one that was taken out too early."""


@dataclass(frozen=True, slots=True)
class SealKeyRing:
    """The service's X25519 private keys by generation. New sensors seal to the highest; all of them open."""

    keys: Mapping[int, bytes] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.keys or any(len(key) != 32 for key in self.keys.values()):
            raise ValueError("keys: at least one, of 32 bytes each")

    def __repr__(self) -> str:
        return f"SealKeyRing(generations={sorted(self.keys)})"

    @property
    def public_key(self) -> bytes:
        """What a sensor seals to, 32 bytes."""
        return _public(self.keys[max(self.keys)])

    @classmethod
    def create(cls) -> Self:
        """A new ring with one random key."""
        return cls({1: os.urandom(32)})

    def rotated(self) -> SealKeyRing:
        """The ring with one more, newer key. Keep the older ones until no sensor's backlog can be older."""
        return SealKeyRing({**self.keys, max(self.keys) + 1: os.urandom(32)})

    @classmethod
    def load(cls, folder: Path, name: str = SEAL_KEY_FILE) -> Self:
        """Read from systemd's credentials or from `folder`. Raises KeyFileError."""
        return cls(parse_key_lines(find_secret(name, folder), name, most=64))

    def save(self, folder: Path, name: str = SEAL_KEY_FILE) -> None:
        """Write with mode 0600, whole or not at all."""
        lines = [f"{generation} {encode_key(key)}\n" for generation, key in sorted(self.keys.items())]
        write_atomic(folder / name, "".join(lines).encode())

    def find(self, key_id: bytes) -> bytes | None:
        """The private key whose public key has this id."""
        return next((key for key in self.keys.values() if seal_key_id(_public(key)) == key_id), None)


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What stands before the frames of a segment. Only `wrapped` holds a secret, and it is sealed."""

    segment_id: bytes
    key_id: bytes
    ephemeral: bytes
    sensor_id: str
    wrapped: bytes = field(repr=False)

    def encode(self) -> bytes:
        """256 bytes."""
        body = _HEADER.pack(
            _MAGIC, self.segment_id, self.key_id, self.ephemeral, self.sensor_id.encode(), self.wrapped
        ).ljust(HEADER_BYTES - 4, b"\0")
        return body + _crc(body)

    @classmethod
    def decode(cls, blob: bytes) -> Self:
        """Raises SealError: not 256 bytes, damaged, or of another version."""
        if len(blob) != HEADER_BYTES or blob[-4:] != _crc(blob[:-4]):
            raise SealError("the segment's header is damaged")
        magic, segment_id, key_id, ephemeral, sensor_id, wrapped = _HEADER.unpack_from(blob)
        if magic != _MAGIC:
            raise SealError("the segment is of another version")
        try:
            name = sensor_id.rstrip(b"\0").decode("ascii")
        except UnicodeDecodeError:
            raise SealError("the segment's header holds no sensor's name") from None
        return cls(segment_id, key_id, ephemeral, name, wrapped)


class SegmentSealer:
    """Makes the frames of one segment. Holds the segment's key in RAM; there is no way to get it back from the disk."""

    def __init__(self, sensor_id: str, service_public_key: bytes) -> None:
        key = os.urandom(32)
        ephemeral = X25519PrivateKey.generate()
        public = ephemeral.public_key().public_bytes_raw()
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(service_public_key))
        bare = SegmentHeader(os.urandom(16), seal_key_id(service_public_key), public, sensor_id, b"")
        wrapped = _wrapping(shared, bare, service_public_key).encrypt(_ZERO_NONCE, key, _header_aad(bare))
        self.header = SegmentHeader(bare.segment_id, bare.key_id, public, sensor_id, wrapped)
        self._frames = FrameCipher(key, self.header)
        self._next = 0

    def seal(self, record: CountRecord) -> bytes:
        """The next frame. Its number is used up, whether or not the frame reaches the disk."""
        number = self._next
        self._next += 1
        return self._frames.seal(number, record)

    def open(self, frame: bytes) -> CountRecord:
        """Open a frame of this segment. Raises SealError."""
        return self._frames.open(frame)


class FrameCipher:
    """Seals and opens frames under a segment's key."""

    def __init__(self, key: bytes, header: SegmentHeader) -> None:
        self._cipher = ChaCha20Poly1305(key)
        self._aad = b"frame\x01" + header.segment_id + header.sensor_id.encode()
        self._sensor_id = header.sensor_id

    def seal(self, number: int, record: CountRecord) -> bytes:
        """64 bytes. One number must never be given twice."""
        if record.sensor_id != self._sensor_id:
            raise ValueError(f"sensor_id: {record.sensor_id!r} is not the segment's sensor")
        prefix = number.to_bytes(4, "little")
        body = prefix + self._cipher.encrypt(_nonce(number), pack_record(record), self._aad + prefix)
        return body + _crc(body)

    def open(self, frame: bytes) -> CountRecord:
        """Raises SealError: damaged, forged, or not a record."""
        if not frame_is_whole(frame):
            raise SealError("the frame is damaged")
        number = int.from_bytes(frame[:4], "little")
        try:
            plain = self._cipher.decrypt(_nonce(number), frame[4:-4], self._aad + frame[:4])
        except InvalidTag:
            raise SealError("the frame does not open: changed, or sealed by another") from None
        return _unpack(plain, self._sensor_id)


def frame_is_whole(frame: bytes, number: int | None = None) -> bool:
    """Whether the disk gave back what was written (and the frame with this number). Says nothing about forgery."""
    if len(frame) != FRAME_BYTES or frame[-4:] != _crc(frame[:-4]):
        return False
    return number is None or int.from_bytes(frame[:4], "little") == number


def unwrap_segment(ring: SealKeyRing, header: SegmentHeader) -> FrameCipher:
    """Open a segment with the service's private key.

    Raises:
        UnknownSealKeyError: sealed to a key that is not in the ring.
        SealError: damaged or forged.
    """
    private = ring.find(header.key_id)
    if private is None:
        raise UnknownSealKeyError("sealed to a key that the service does not hold; put the older seal key back")
    try:
        public = X25519PublicKey.from_public_bytes(header.ephemeral)
        shared = X25519PrivateKey.from_private_bytes(private).exchange(public)
        cipher = _wrapping(shared, header, _public(private))
        key = cipher.decrypt(_ZERO_NONCE, header.wrapped, _header_aad(header))
    except (ValueError, InvalidTag):
        raise SealError("the segment's key does not open: damaged or forged") from None
    return FrameCipher(key, header)


def encode_sealed_batch(sections: Sequence[tuple[SegmentHeader, Sequence[bytes]]]) -> bytes:
    """The body of a sealed batch: frames as they lie on the disk, each run of them after its segment's header."""
    parts = [_BATCH_MAGIC, struct.pack("<H", len(sections))]
    for header, frames in sections:
        parts += [header.encode(), struct.pack("<H", len(frames)), *frames]
    return b"".join(parts)


def open_sealed_batch(ring: SealKeyRing, body: bytes, sensor_id: str | None = None) -> DecodedBatch:
    """Read the body of ``POST /v1/counts`` of the type `SEALED_TYPE`. Anyone can seal: who sent it, the signature says.

    Args:
        ring: the service's seal keys.
        body: as received, not compressed.
        sensor_id: whose signature the request bears; frames of others are rejected.

    Raises:
        BatchError: 400 not such a body, 413 too large, 409 sealed to an unknown key. Nothing else, whatever the bytes.
    """
    decoded = DecodedBatch([], [])
    index = 0
    for header, frames in _sections(body):
        try:
            cipher = unwrap_segment(ring, header)
            if sensor_id is not None and header.sensor_id != sensor_id:
                raise SealError("sensor_id: not the sensor that signed the request")
        except UnknownSealKeyError as error:
            raise BatchError(409, "unknown-seal-key", str(error)) from None
        except SealError as error:
            decoded.rejected.extend(Rejection(index=index + offset, reason=str(error)) for offset in range(len(frames)))
            index += len(frames)
            continue
        for frame in frames:
            try:
                record = cipher.open(frame)
            except SealError as error:
                decoded.rejected.append(Rejection(index=index, reason=str(error)))
            else:
                decoded.records.append(record)
                decoded.indexes.append(index)
            index += 1
    return decoded


def _sections(body: bytes) -> list[tuple[SegmentHeader, list[bytes]]]:
    if len(body) > MAX_BATCH_BYTES:
        raise BatchError(
            413, "too-large", f"the body has {len(body)} bytes; at most {MAX_BATCH_BYTES}: send fewer records"
        )
    if body[: len(_BATCH_MAGIC)] != _BATCH_MAGIC:
        raise BatchError(400, "not-a-sealed-batch", "the body is not a sealed batch of version 1")
    place = len(_BATCH_MAGIC)
    count, place = _u16(body, place)
    sections: list[tuple[SegmentHeader, list[bytes]]] = []
    total = 0
    for _ in range(count):
        try:
            header = SegmentHeader.decode(body[place : place + HEADER_BYTES])
        except SealError as error:
            raise BatchError(400, "not-a-sealed-batch", str(error)) from None
        number, place = _u16(body, place + HEADER_BYTES)
        end = place + number * FRAME_BYTES
        total += number
        if total > MAX_RECORDS_PER_BATCH:
            raise BatchError(413, "too-many-records", f"more than {MAX_RECORDS_PER_BATCH} records in one batch")
        if number == 0 or end > len(body):
            raise BatchError(
                400, "not-a-sealed-batch", "the body ends in the middle of a segment, or a segment is empty"
            )
        sections.append((header, [body[at : at + FRAME_BYTES] for at in range(place, end, FRAME_BYTES)]))
        place = end
    if place != len(body):
        raise BatchError(400, "not-a-sealed-batch", "the body goes on after its last segment")
    return sections


def _u16(body: bytes, place: int) -> tuple[int, int]:
    if place + 2 > len(body):
        raise BatchError(400, "not-a-sealed-batch", "the body ends in the middle of a number")
    return int.from_bytes(body[place : place + 2], "little"), place + 2


def pack_record(record: CountRecord) -> bytes:
    """The plain text of a frame, 40 bytes for every record.

    Raises:
        ValueError: a record that was made past its own checks, and does not fit.
    """
    health = sum(1 << _HEALTH.index(state) for state in record.health)
    present = -1 if record.present is None else record.present
    present_max = -1 if record.present_max is None else record.present_max
    start = int(record.start.timestamp())
    try:
        return _RECORD.pack(
            start, record.seconds, health, present, present_max, record.entered, record.left, record.coverage
        )
    except struct.error as error:
        raise ValueError(f"the record of {record.start.isoformat()} holds a value out of bounds: {error}") from None


def _unpack(plain: bytes, sensor_id: str) -> CountRecord:
    try:
        start, seconds, health, present, present_max, entered, left, coverage = _RECORD.unpack(plain)
        if health >> len(_HEALTH):
            raise SealError("health: a state that this version does not know")
        return CountRecord(
            sensor_id=sensor_id,
            start=datetime.fromtimestamp(start, UTC),
            seconds=seconds,
            present=None if present == -1 else present,
            present_max=None if present_max == -1 else present_max,
            entered=entered,
            left=left,
            coverage=coverage,
            health=frozenset(state for bit, state in enumerate(_HEALTH) if health >> bit & 1),
        )
    except ValidationError as error:
        raise SealError(describe(error)) from None
    except (struct.error, ValueError, OverflowError, OSError):
        raise SealError("the frame opens, but holds no record") from None


def seal_key_id(public_key: bytes) -> bytes:
    """8 bytes that name a public key."""
    return hashlib.sha256(b"headroom seal key" + public_key).digest()[:8]


def _public(private: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def _wrapping(shared: bytes, header: SegmentHeader, service_public_key: bytes) -> ChaCha20Poly1305:
    return ChaCha20Poly1305(derive(shared, "segment-key", header.ephemeral.hex(), service_public_key.hex()))


def _header_aad(header: SegmentHeader) -> bytes:
    return _MAGIC + header.segment_id + header.key_id + header.ephemeral + header.sensor_id.encode()


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")
