"""Keys: the service's master key ring, and every sensor's own key derived from it.

``sensor key = HKDF-SHA256(master key of a generation, info = purpose, sensor id, generation)``. The service stores no
sensor keys: it derives them. A sensor's key opens nothing of another sensor and does not lead back to the master key.

Rotation: `MasterKeyRing.rotated` adds a generation; the older ones stay valid until `MasterKeyRing.without` takes them
out. A sensor that still signs with an older generation is handed its next key, sealed under the one it has
(`wrap_next_key`). That serves the calendar, not a theft: who holds a stolen key can read the next one too, so a stolen
sensor is revoked and enrolled again.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from uplink.keyfiles import KeyFileError, decode_key, encode_key, find_secret, write_atomic
from uplink.messages import SENSOR_ID_PATTERN

MASTER_KEY_FILE = "master.key"
MAX_GENERATION = 1_000_000
_KEY_LINE = re.compile(r"([1-9][0-9]{0,6}) ([A-Za-z0-9+/]{43}=)")


def derive(secret: bytes, purpose: str, *context: str) -> bytes:
    """32 bytes by HKDF-SHA256 (RFC 5869). Each context part goes in with its length, so no two lists look alike."""
    info = b"headroom/v1/" + purpose.encode()
    for part in context:
        encoded = part.encode()
        info += len(encoded).to_bytes(2, "big") + encoded
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(secret)


@dataclass(frozen=True, slots=True)
class SensorKey:
    """One sensor's key of one generation. Its repr shows no key material."""

    sensor_id: str
    generation: int
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if not re.fullmatch(SENSOR_ID_PATTERN, self.sensor_id):
            raise ValueError(f"sensor_id: {self.sensor_id!r} is not a sensor's name")
        if not 1 <= self.generation <= MAX_GENERATION:
            raise ValueError(f"generation: {self.generation} is not within 1..{MAX_GENERATION}")
        if len(self.secret) != 32:
            raise ValueError("secret: a key has 32 bytes")

    def subkey(self, purpose: str) -> bytes:
        """A key for one purpose: the sensor's key itself is never used twice in two roles."""
        return derive(self.secret, purpose, self.sensor_id)

    def to_text(self) -> bytes:
        """The content of ``sensor.key``: generation and base64 in one line."""
        return f"{self.generation} {encode_key(self.secret)}\n".encode()

    @classmethod
    def from_text(cls, sensor_id: str, text: bytes) -> Self:
        """Read what `to_text` wrote.

        Raises:
            KeyFileError: not a key. The text of the error holds nothing of the input.
        """
        ((generation, secret),) = parse_key_lines(text, "sensor key", most=1).items()
        return cls(sensor_id, generation, secret)


@dataclass(frozen=True, slots=True)
class MasterKeyRing:
    """The service's master keys by generation; the highest is the current one."""

    keys: Mapping[int, bytes] = field(repr=False)

    def __post_init__(self) -> None:
        if not self.keys:
            raise ValueError("keys: a ring holds at least one key")
        if any(len(key) != 32 or not any(key) for key in self.keys.values()):
            raise ValueError("keys: a master key has 32 bytes, not all zero")
        if any(not 1 <= generation <= MAX_GENERATION for generation in self.keys):
            raise ValueError(f"keys: generations are within 1..{MAX_GENERATION}")

    def __repr__(self) -> str:
        return f"MasterKeyRing(generations={sorted(self.keys)})"

    @property
    def current(self) -> int:
        """The newest generation: new sensors get their key from it."""
        return max(self.keys)

    @classmethod
    def create(cls) -> Self:
        """A new ring with one random key, generation 1."""
        return cls({1: secrets.token_bytes(32)})

    def rotated(self) -> MasterKeyRing:
        """The ring with one more, newer key. The older ones stay valid: an overlap."""
        return MasterKeyRing({**self.keys, self.current + 1: secrets.token_bytes(32)})

    def without(self, generation: int) -> MasterKeyRing:
        """The ring without one older generation: keys derived from it end at once.

        Raises:
            ValueError: unknown, or the current one.
        """
        if generation not in self.keys:
            raise ValueError(f"generation: the ring holds {sorted(self.keys)}, not {generation}")
        if generation == self.current:
            raise ValueError(f"generation: {generation} is the current one; rotate first")
        return MasterKeyRing({number: key for number, key in self.keys.items() if number != generation})

    def sensor_key(self, sensor_id: str, generation: int | None = None) -> SensorKey | None:
        """A sensor's key, by default of the current generation; None for a generation that the ring does not hold."""
        number = self.current if generation is None else generation
        master = self.keys.get(number)
        if master is None:
            return None
        return SensorKey(sensor_id, number, derive(master, "sensor-key", sensor_id, str(number)))

    @classmethod
    def load(cls, folder: Path, name: str = MASTER_KEY_FILE) -> Self:
        """Read the ring from systemd's credentials or from `folder`.

        Raises:
            KeyFileError: missing, open to others, or not a key ring.
        """
        return cls(parse_key_lines(find_secret(name, folder), name, most=64))

    def save(self, folder: Path, name: str = MASTER_KEY_FILE) -> None:
        """Write the ring with mode 0600, whole or not at all."""
        lines = [f"{generation} {encode_key(key)}\n" for generation, key in sorted(self.keys.items())]
        write_atomic(folder / name, "".join(lines).encode())


def wrap_next_key(old: SensorKey, new: SensorKey) -> str:
    """`new` sealed under `old`: the value of the answer's ``Headroom-Next-Key`` header."""
    nonce = os.urandom(12)
    sealed = ChaCha20Poly1305(old.subkey("next-key")).encrypt(nonce, new.secret, _next_aad(old, new.generation))
    return f"{new.generation}:{base64.b64encode(nonce + sealed).decode()}"


def unwrap_next_key(old: SensorKey, text: str) -> SensorKey:
    """Open what `wrap_next_key` sealed.

    Raises:
        KeyFileError: not sealed under this key, or an older generation.
    """
    number, _, encoded = text.partition(":")
    try:
        generation, blob = int(number), base64.b64decode(encoded, validate=True)
        if not old.generation < generation <= MAX_GENERATION:
            raise ValueError
        secret = ChaCha20Poly1305(old.subkey("next-key")).decrypt(blob[:12], blob[12:], _next_aad(old, generation))
        return SensorKey(old.sensor_id, generation, secret)
    except (ValueError, binascii.Error, InvalidTag):
        raise KeyFileError("next key: not sealed under this sensor's key, or not newer") from None


def _next_aad(old: SensorKey, generation: int) -> bytes:
    return f"{old.sensor_id} {old.generation} {generation}".encode()


def parse_key_lines(text: bytes, what: str, most: int) -> dict[int, bytes]:
    """Read lines of ``GENERATION BASE64``, at most `most`.

    Raises:
        KeyFileError: anything else. The text of the error holds nothing of the input.
    """
    keys: dict[int, bytes] = {}
    lines = text.decode("ascii", "replace").strip().split("\n")
    for number, line in enumerate(lines, 1):
        match = _KEY_LINE.fullmatch(line.strip())
        if match is None or number > most:
            raise KeyFileError(f"{what}: line {number} is not 'GENERATION BASE64'")
        generation = int(match[1])
        if generation in keys or generation > MAX_GENERATION:
            raise KeyFileError(f"{what}: line {number}: generation {generation} is given twice or too large")
        keys[generation] = decode_key(match[2], f"{what}: line {number}")
    return keys
