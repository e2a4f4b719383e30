"""What the service keeps besides counts and plans: users, sessions, invitations, tokens, sources, audit entries.

Each is one JSON value under (kind, organisation, id), sealed by the program before a store sees it: these hold mail
addresses and other systems' tokens. What a store can see is the key, a version and when it may be forgotten. Keys must
therefore hold no personal data: random ids and digests.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from analytics.store.errors import StoreConfigurationError
from analytics.store.sealing import derive_key

INSTALLATION = ""
"""Stands for the organisation where a thing belongs to the whole installation."""
_NONCE = 12


@dataclass(frozen=True, slots=True)
class RawKept:
    """What a store holds: a sealed value it cannot read."""

    id: str
    version: int
    sealed: bytes
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """One value with its version, for compare-and-swap."""

    id: str
    version: int
    value: Mapping[str, Any] = field(repr=False)
    expires_at: datetime | None = None


class KeptStore(Protocol):
    """The store's side. Reads give the newest acknowledged write; every call names kind and organisation."""

    def read_kept(self, kind: str, org_id: str, item_id: str) -> RawKept | None: ...
    def list_kept(
        self, kind: str, org_id: str, *, after: str = "", limit: int = 1000, newest_first: bool = False
    ) -> list[RawKept]:
        """By id, keyset paging: ids greater than ``after`` (smaller when ``newest_first`` and ``after`` is given)."""
        ...

    def write_kept(self, kind: str, org_id: str, item: RawKept, replaces: int) -> None:
        """Durably write ``item`` over version ``replaces`` (0: there is none yet).

        Raises AlreadyExistsError (0, but there is one) or StaleWriteError (another version, or it is gone).
        """
        ...

    def remove_kept(self, kind: str, org_id: str, item_id: str, version: int | None = None) -> bool:
        """True for the one caller that removed it; with ``version`` only that one. How a thing works once."""
        ...

    def expire_kept(self, before: datetime) -> int:
        """Forget what expired before an instant. Returns how many."""
        ...


class SealedKeep:
    """Seals and opens what a `KeptStore` holds.

    AES-256-GCM with a key for each organisation; kind, id and version are authenticated, so that a sealed value can
    be neither moved to another place nor put back after it was replaced.
    """

    def __init__(self, store: KeptStore, master: bytes) -> None:
        derive_key(master, "probe")
        self._store = store
        self._master = master
        self._ciphers: dict[str, AESGCM] = {}
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return "SealedKeep()"

    def get(self, kind: str, org_id: str, item_id: str) -> Kept | None:
        """One value, or None."""
        raw = self._store.read_kept(kind, org_id, item_id)
        return None if raw is None else self._open(kind, org_id, raw)

    def page(
        self, kind: str, org_id: str, *, after: str = "", limit: int = 1000, newest_first: bool = False
    ) -> list[Kept]:
        """Values by id; see `KeptStore.list_kept`."""
        rows = self._store.list_kept(kind, org_id, after=after, limit=limit, newest_first=newest_first)
        return [self._open(kind, org_id, raw) for raw in rows]

    def every(self, kind: str, org_id: str) -> list[Kept]:
        """All values of a kind, whatever their number."""
        found: list[Kept] = []
        while page := self.page(kind, org_id, after=found[-1].id if found else ""):
            found += page
        return found

    def put(
        self,
        kind: str,
        org_id: str,
        item_id: str,
        value: Mapping[str, Any],
        *,
        replaces: int = 0,
        expires_at: datetime | None = None,
    ) -> Kept:
        """Write a value over version ``replaces``; raises as `KeptStore.write_kept`."""
        version = replaces + 1
        nonce = os.urandom(_NONCE)
        text = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
        sealed = nonce + self._cipher(org_id).encrypt(nonce, text, _bound(kind, org_id, item_id, version))
        self._store.write_kept(kind, org_id, RawKept(item_id, version, sealed, expires_at), replaces)
        return Kept(item_id, version, value, expires_at)

    def remove(self, kind: str, org_id: str, item_id: str, version: int | None = None) -> bool:
        """True for the one caller that removed it."""
        return self._store.remove_kept(kind, org_id, item_id, version)

    def _open(self, kind: str, org_id: str, raw: RawKept) -> Kept:
        nonce, rest = raw.sealed[:_NONCE], raw.sealed[_NONCE:]
        try:
            text = self._cipher(org_id).decrypt(nonce, rest, _bound(kind, org_id, raw.id, raw.version))
        except (InvalidTag, ValueError) as error:
            raise StoreConfigurationError(
                f"a sealed {kind} does not open: the master key is not the one it was sealed with, or it was touched"
            ) from error
        return Kept(raw.id, raw.version, json.loads(text), raw.expires_at)

    def _cipher(self, org_id: str) -> AESGCM:
        with self._lock:
            if org_id not in self._ciphers:
                self._ciphers[org_id] = AESGCM(derive_key(self._master, "kept values v1", org_id))
            return self._ciphers[org_id]


def _bound(kind: str, org_id: str, item_id: str, version: int) -> bytes:
    return json.dumps([kind, org_id, item_id, version]).encode()
