"""Names of bookers are sealed by the program before a store sees them; the key of the embedded file is derived here.

AES-256-GCM with a key of its own for each organisation, HKDF-SHA256 from the service's master key. The booking's key is
authenticated with the name, so that a sealed name cannot be moved to another booking.
"""

from __future__ import annotations

import os
import threading
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from analytics.store.errors import StoreConfigurationError

_NONCE = 12
_VERSION = b"\x01"


def derive_key(master: bytes, purpose: str, context: str = "") -> bytes:
    """32 bytes for one purpose. Raises ValueError for a master key shorter than 32 bytes."""
    if len(master) < 32:
        raise ValueError(f"the master key has {len(master)} bytes, it needs at least 32")
    info = b"headroom\x00" + purpose.encode() + b"\x00" + context.encode()
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(master)


def file_key(master: bytes) -> bytes:
    """The raw key of the embedded store's file."""
    return derive_key(master, "store file v1")


class NameSealer(Protocol):
    """Seals and opens a booker's name for one booking."""

    def seal(self, org_id: str, booking_key: str, name: str) -> bytes: ...
    def open(self, org_id: str, booking_key: str, sealed: bytes) -> str: ...


class AesNameSealer:
    """AES-256-GCM, random nonces (a key seals far fewer than the 2**32 names up to which that is safe)."""

    def __init__(self, master: bytes) -> None:
        derive_key(master, "probe")  # a bad key is refused now, not at the first name
        self._master = master
        self._ciphers: dict[str, AESGCM] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "AesNameSealer()"

    def seal(self, org_id: str, booking_key: str, name: str) -> bytes:
        nonce = os.urandom(_NONCE)
        return _VERSION + nonce + self._cipher(org_id).encrypt(nonce, name.encode(), booking_key.encode())

    def open(self, org_id: str, booking_key: str, sealed: bytes) -> str:
        """Raises StoreConfigurationError when the key is another or the bytes were touched."""
        try:
            nonce, rest = sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :]
            return self._cipher(org_id).decrypt(nonce, rest, booking_key.encode()).decode()
        except (InvalidTag, ValueError) as error:
            raise StoreConfigurationError(
                "a sealed name does not open: the master key is not the one it was sealed with"
            ) from error

    def _cipher(self, org_id: str) -> AESGCM:
        with self._lock:
            if org_id not in self._ciphers:
                self._ciphers[org_id] = AESGCM(derive_key(self._master, "booker names v1", org_id))
            return self._ciphers[org_id]
