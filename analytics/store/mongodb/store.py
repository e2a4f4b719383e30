"""The store on MongoDB put together from its parts."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from pymongo import MongoClient
from pymongo.synchronous.database import Database

from analytics.store.mongodb.connection import Document, connect, mongo, translated
from analytics.store.mongodb.counts import CountPart
from analytics.store.mongodb.housekeeping import HousekeepingPart
from analytics.store.mongodb.kept import KeptPart
from analytics.store.mongodb.master import MasterPart
from analytics.store.mongodb.rollups import RollupPart
from analytics.store.mongodb.schema import migrate
from analytics.store.mongodb.sensors import SensorPart
from analytics.store.sealing import AesNameSealer, NameSealer


class MongoStore(MasterPart, SensorPart, CountPart, RollupPart, HousekeepingPart, KeptPart):
    """`analytics.store.base.Store` on MongoDB; any number of processes may share it.

    Keeps no state of its own between calls. Thread-safe.
    """

    def __init__(self, client: MongoClient[Document], database: Database[Document], sealer: NameSealer) -> None:
        self._client = client
        self.database = database
        self.sealer = sealer

    @classmethod
    def open(cls, uri: str, master_key: bytes, database: str | None = None, **options: Any) -> Self:
        """Connect, demand TLS unless on loopback, and bring the schema up to date. ``options`` go to pymongo.

        Raises StoreConfigurationError (address, TLS, user, newer schema) and StoreUnavailableError (nobody answers).
        """
        sealer = AesNameSealer(master_key)
        client, target = connect(uri, database, **options)
        try:
            with translated():
                migrate(target)
        except BaseException:
            client.close()
            raise
        return cls(client, target, sealer)

    @mongo
    def ping(self) -> None:
        self.database.command("ping")

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


if TYPE_CHECKING:
    from analytics.store.base import Store

    def _keeps_the_contract(store: MongoStore) -> Store:
        return store
