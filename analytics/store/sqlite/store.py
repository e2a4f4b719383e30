"""The embedded store put together from its parts."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

from analytics.store.sealing import AesNameSealer, NameSealer, file_key
from analytics.store.sqlite.connection import Connections
from analytics.store.sqlite.counts import CountPart
from analytics.store.sqlite.housekeeping import HousekeepingPart
from analytics.store.sqlite.kept import KeptPart
from analytics.store.sqlite.master import MasterPart
from analytics.store.sqlite.plan import PlanPart
from analytics.store.sqlite.rollups import RollupPart
from analytics.store.sqlite.sensors import SensorPart


class SqliteStore(MasterPart, SensorPart, CountPart, PlanPart, RollupPart, HousekeepingPart, KeptPart):
    """`analytics.store.base.Store` in one SQLCipher file.

    ``key`` is the raw 32-byte key of the file, ``sealer`` seals bookers' names. Thread-safe. Raises StoreLockedError
    when another process has the file and StoreConfigurationError when the key is another's.
    """

    def __init__(self, path: Path, key: bytes, sealer: NameSealer) -> None:
        self.connections = Connections(path, key)
        self.sealer = sealer

    @classmethod
    def open(cls, path: Path, master_key: bytes) -> Self:
        """With the file's key and the names' key derived from the service's master key."""
        return cls(path, file_key(master_key), AesNameSealer(master_key))

    def ping(self) -> None:
        with self.connections.read() as db:
            db.execute("SELECT 1").fetchone()

    def close(self) -> None:
        self.connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
