"""The client: what it demands of the connection, and how its failures read."""

from __future__ import annotations

import ipaddress
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from pymongo import MongoClient, WriteConcern
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    DuplicateKeyError,
    ExecutionTimeout,
    InvalidURI,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
)
from pymongo.read_concern import ReadConcern
from pymongo.synchronous.database import Database

from analytics.store.errors import StoreConfigurationError, StoreError, StoreUnavailableError

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")
Document = dict[str, Any]
MAX_RACES = 12
_WRITE_TIMEOUT_MS = 10_000
_PASSING = (
    AutoReconnect,
    NetworkTimeout,
    NotPrimaryError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
    ExecutionTimeout,
)
_AUTHENTICATION_CODES = {13, 18, 8000}  # Unauthorized, AuthenticationFailed, AtlasError


def connect(uri: str, database: str | None = None, **options: Any) -> tuple[MongoClient[Document], Database[Document]]:
    """A client that reads and writes what the majority holds, and its database (default: the address's, or headroom).

    Raises StoreConfigurationError for an address that does not parse, and for one that is not on loopback without TLS.
    """
    settings: dict[str, Any] = {
        "appname": "headroom",
        "tz_aware": True,
        "retryWrites": True,
        "retryReads": True,
        "serverSelectionTimeoutMS": 5_000,
        "connectTimeoutMS": 5_000,
        "socketTimeoutMS": 30_000,
        **options,
    }
    try:
        client: MongoClient[Document] = MongoClient(uri, connect=False, **settings)
        if client.options.pool_options._ssl_context is None:
            # A replica set on loopback may name members elsewhere: without TLS nothing is ever sent to them.
            client.close()
            client = MongoClient(uri, connect=False, server_selector=_on_loopback, **settings)
        target = client[database] if database else client.get_default_database("headroom")
    except (InvalidURI, ConfigurationError, ValueError) as error:
        raise StoreConfigurationError(f"the address of MongoDB is not right: {_redacted(str(error), uri)}") from None
    try:
        _demand_tls(client)
    except BaseException:
        client.close()
        raise
    # Majority reads: what a batch is acknowledged for as a duplicate must itself be durable.
    durable = target.with_options(
        write_concern=WriteConcern(w="majority", wtimeout=_WRITE_TIMEOUT_MS), read_concern=ReadConcern("majority")
    )
    return client, durable


def _demand_tls(client: MongoClient[Document]) -> None:
    options = client.options
    seeds = client.topology_description.server_descriptions()
    context = options.pool_options._ssl_context  # as pymongo resolved it: mongodb+srv turns TLS on by itself
    if all(is_loopback(host) for host, _ in seeds):
        return
    if context is None:
        raise StoreConfigurationError(
            "MongoDB is not on this machine and TLS is off: add tls=true to its address (and tlsCAFile for an own CA)"
        )
    if options.pool_options.tls_allow_invalid_hostnames or not context.verify_mode:
        raise StoreConfigurationError(
            "MongoDB is not on this machine and its certificate is not checked: remove tlsInsecure, "
            "tlsAllowInvalidCertificates and tlsAllowInvalidHostnames from its address"
        )


def _on_loopback(servers: list[Any]) -> list[Any]:
    return [server for server in servers if is_loopback(server.address[0])]


def is_loopback(host: str) -> bool:
    """A socket file, localhost or a loopback address. Names are not looked up: what they mean can change."""
    if host.startswith("/") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _redacted(message: str, uri: str) -> str:
    """Without the address's user and password, whatever the driver quotes."""
    if "@" in uri:
        credentials = uri.split("://", 1)[-1].rsplit("@", 1)[0]
        for secret in (credentials, *credentials.split(":", 1)):
            if secret:
                message = message.replace(secret, "***")
    return message


@contextmanager
def translated() -> Iterator[None]:
    """Errors of the driver as the store's own; no text of the server reaches them beyond its code."""
    try:
        yield
    except DuplicateKeyError as error:
        raise StoreError("MongoDB refused a value that is unique") from error
    except _PASSING as error:
        raise StoreUnavailableError(f"MongoDB cannot answer durably now ({type(error).__name__})") from error
    except BulkWriteError as error:
        raise _bulk_error(error) from error
    except OperationFailure as error:
        if error.code in _AUTHENTICATION_CODES:
            raise StoreConfigurationError(f"MongoDB refuses this user (code {error.code})") from error
        raise StoreError(f"MongoDB refused (code {error.code})") from error
    except PyMongoError as error:
        raise StoreError(f"MongoDB failed ({type(error).__name__})") from error


def _bulk_error(error: BulkWriteError) -> StoreError:
    details = error.details or {}
    if details.get("writeConcernErrors") and not details.get("writeErrors"):
        return StoreUnavailableError("MongoDB did not confirm that the majority has it")
    codes = sorted({int(problem["code"]) for problem in details.get("writeErrors", ())})
    return StoreError(f"MongoDB refused a part of the writes (codes {codes})")


def mongo(method: Callable[P, T]) -> Callable[P, T]:
    """A call of the store: the driver's errors come out translated."""

    @wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> T:
        with translated():
            return method(*args, **kwargs)

    return wrapper


def only_duplicates(error: BulkWriteError) -> bool:
    """All that went wrong is that somebody else was faster with a key."""
    details = error.details or {}
    problems = details.get("writeErrors", ())
    return bool(problems) and not details.get("writeConcernErrors") and all(p.get("code") == 11_000 for p in problems)


def pause(attempt: int) -> None:
    """Between attempts of an optimistic write: most races end at once, the last ones wait for the majority."""
    if attempt > 1:
        time.sleep(min(0.01 * 2**attempt, 0.5))


def race_lost(what: str) -> StoreUnavailableError:
    return StoreUnavailableError(f"{what}: other writers were faster {MAX_RACES} times in a row; try again")
