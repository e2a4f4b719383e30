"""WireGuard keys: 32 bytes, base64, checked at the door and never shown.

``wg`` and some libraries accept text that decodes to something else, or to the all-zero key; these types do not.
"""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass, field
from typing import Self

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

KEY_BYTES = 32
# A scalar to test points with: X25519 with any scalar maps a point of small order to zero (RFC 7748, section 6.1).
_PROBE = X25519PrivateKey.from_private_bytes(bytes([0x40]) * KEY_BYTES)


class KeyFormatError(ValueError):
    """The text or bytes are no usable WireGuard key. The message never holds the key."""


def _decode(text: str, what: str) -> bytes:
    """The 32 bytes of the canonical base64 text `text` (44 characters, as `wg` writes it)."""
    text = text.strip()
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise KeyFormatError(f"the {what} is not base64; expected 44 characters as `wg genkey` prints them") from None
    if base64.b64encode(raw).decode() != text:
        raise KeyFormatError(f"the {what} is not canonical base64; copy all 44 characters of it")
    return raw


def _check(raw: bytes, what: str) -> None:
    if len(raw) != KEY_BYTES:
        raise KeyFormatError(f"the {what} has {len(raw)} bytes; a WireGuard key has exactly {KEY_BYTES}")
    if not any(raw):
        raise KeyFormatError(f"the {what} is all zero; it was never filled in")


@dataclass(frozen=True)
class PublicKey:
    """A point that another side gave us: 32 bytes, not zero, not of small order."""

    raw: bytes

    def __post_init__(self) -> None:
        _check(self.raw, "public key")
        try:
            _PROBE.exchange(X25519PublicKey.from_public_bytes(self.raw))
        except ValueError:
            raise KeyFormatError("the public key is a point of small order; no honest key is one") from None

    @classmethod
    def parse(cls, text: str) -> Self:
        """From base64. Raises KeyFormatError."""
        return cls(_decode(text, "public key"))

    def __str__(self) -> str:
        return base64.b64encode(self.raw).decode()


@dataclass(frozen=True)
class PrivateKey:
    """A private key. `repr` and `str` never show it; `secret_text()` is the one way out."""

    raw: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _check(self.raw, "private key")

    @classmethod
    def generate(cls) -> Self:
        return cls(X25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def parse(cls, text: str) -> Self:
        """From base64. Raises KeyFormatError."""
        return cls(_decode(text, "private key"))

    @property
    def public(self) -> PublicKey:
        return PublicKey(X25519PrivateKey.from_private_bytes(self.raw).public_key().public_bytes_raw())

    def secret_text(self) -> str:
        """Base64, for a file of mode 0600 or the standard input of `wg`."""
        return base64.b64encode(self.raw).decode()


@dataclass(frozen=True)
class PresharedKey:
    """The symmetric key of one pair of peers: protects recorded traffic should X25519 fall."""

    raw: bytes = field(repr=False)

    def __post_init__(self) -> None:
        _check(self.raw, "preshared key")

    @classmethod
    def generate(cls) -> Self:
        return cls(secrets.token_bytes(KEY_BYTES))

    @classmethod
    def parse(cls, text: str) -> Self:
        """From base64. Raises KeyFormatError."""
        return cls(_decode(text, "preshared key"))

    def secret_text(self) -> str:
        """Base64, for a file of mode 0600 or the standard input of `wg`."""
        return base64.b64encode(self.raw).decode()
