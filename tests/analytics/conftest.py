"""A store of each kind for whoever tests against the Store protocol."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from analytics.store.base import Store
from analytics.store.sqlite import SqliteStore
from tests.analytics.serial_proxy import serial_proxy

MASTER_KEY = bytes(range(32))
OpenStore = Callable[[], Store]


@pytest.fixture(scope="session")
def mongodb_uri() -> Iterator[str]:
    """A server that speaks MongoDB's protocol; the test skips with the reason where there is none."""
    uri = os.environ.get("HEADROOM_TEST_MONGODB_URI", "")
    if not uri:
        pytest.skip("HEADROOM_TEST_MONGODB_URI names no MongoDB-compatible server")
    from pymongo import MongoClient

    with MongoClient[dict[str, object]](uri, serverSelectionTimeoutMS=5_000) as client:
        about, address = client.admin.command("buildInfo"), client.address
    if "ferretdbVersion" not in about or address is None:
        yield uri
        return
    with serial_proxy(*address) as proxied:
        yield proxied


@pytest.fixture
def mongodb_database(mongodb_uri: str) -> Iterator[tuple[str, str]]:
    """Address of the server and the name of a database of the test's own."""
    from pymongo import MongoClient

    name = f"headroom_test_{uuid.uuid4().hex[:12]}"
    yield mongodb_uri, name
    with MongoClient[dict[str, object]](mongodb_uri) as client:
        client.drop_database(name)


@pytest.fixture(params=["sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb)])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OpenStore]:
    """Opens the same store each time it is called; the embedded one must be closed in between."""
    with ExitStack() as stack:
        if request.param == "sqlite":

            def opener() -> Store:
                return stack.enter_context(SqliteStore.open(tmp_path / "headroom.db", MASTER_KEY))
        else:
            from analytics.store.mongodb import MongoStore

            uri, name = request.getfixturevalue("mongodb_database")

            def opener() -> Store:
                return stack.enter_context(MongoStore.open(uri, MASTER_KEY, database=name))

        yield opener


@pytest.fixture
def store(open_store: OpenStore) -> Store:
    """An empty store: the same tests run on the embedded one and, where there is a server, on MongoDB."""
    return open_store()
