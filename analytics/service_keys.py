"""The service's secrets: made once, in the ``keys`` folder of an empty data folder, each in a file of mode 0600.

``master.key`` sensors' keys are derived from it · ``seal.key`` opens what sensors sealed · ``store.key`` opens the
embedded store · ``wireguard.key`` and ``preshared.key`` the tunnel · ``enrolment.key`` the service's half of enrolment.
Any of them may come from systemd's credentials instead (`uplink.keyfiles`).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from uplink.keyfiles import KeyFileError, decode_key, encode_key, find_secret, write_atomic
from uplink.keys import MASTER_KEY_FILE, MasterKeyRing, derive
from uplink.sealing import SEAL_KEY_FILE, SealKeyRing
from uplink.wgkeys import PresharedKey, PrivateKey, PublicKey

_SINGLE = ("store.key", "wireguard.key", "preshared.key", "enrolment.key")


@dataclass(frozen=True)
class ServiceKeys:
    """All secrets of one service."""

    master: MasterKeyRing
    seal: SealKeyRing
    store: bytes = field(repr=False)
    wireguard: PrivateKey
    preshared: bytes = field(repr=False)
    enrolment: bytes = field(repr=False)

    @classmethod
    def create(cls) -> Self:
        """New random keys, in memory."""
        return cls(
            MasterKeyRing.create(),
            SealKeyRing.create(),
            secrets.token_bytes(32),
            PrivateKey.generate(),
            secrets.token_bytes(32),
            secrets.token_bytes(32),
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read all of them. Raises KeyFileError: one is missing, open to others, or not a key."""
        store, wireguard, preshared, enrolment = (decode_key(find_secret(name, folder), name) for name in _SINGLE)
        return cls(
            MasterKeyRing.load(folder),
            SealKeyRing.load(folder),
            store,
            PrivateKey(wireguard),
            preshared,
            enrolment,
        )

    def save(self, folder: Path) -> None:
        """Write all of them. The master key goes last: its presence says that the set is whole."""
        values = (self.store, self.wireguard.raw, self.preshared, self.enrolment)
        for name, value in zip(_SINGLE, values, strict=True):
            write_atomic(folder / name, encode_key(value).encode() + b"\n")
        self.seal.save(folder, SEAL_KEY_FILE)
        self.master.save(folder, MASTER_KEY_FILE)

    def peer_preshared(self, sensor_id: str, public_key: PublicKey) -> PresharedKey:
        """The WireGuard preshared key of one sensor: derived, so that a restored store needs no other secret."""
        return PresharedKey(derive(self.preshared, "wireguard-preshared", sensor_id, str(public_key)))


WRITTEN_BY_HAND = frozenset({"service.toml", "rules.toml"})
"""What a person may have put into the data folder before the first start."""


def load_or_create(data: Path, folder: Path) -> ServiceKeys:
    """The service's keys; made when the data folder is new.

    Raises:
        KeyFileError: some are missing beside data that need them, open to others, or not keys.
    """
    try:
        return ServiceKeys.load(folder)
    except KeyFileError:
        leftovers = sorted(path.name for path in data.iterdir() if path != folder) if data.is_dir() else []
        if (folder / MASTER_KEY_FILE).exists() or any(name not in WRITTEN_BY_HAND for name in leftovers):
            raise  # never a new key beside old data: it would lock the data away for good
    keys = ServiceKeys.create()
    keys.save(folder)
    return keys
