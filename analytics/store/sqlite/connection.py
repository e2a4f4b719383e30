"""Connections to the embedded file: one writer, a few readers, one process, encrypted, durable."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlcipher3 import dbapi2 as sqlcipher

from analytics.store.errors import StoreConfigurationError, StoreError, StoreLockedError, StoreUnavailableError
from analytics.store.sqlite.migrations import migrate

log = logging.getLogger(__name__)

_IDLE_READERS = 4
# Without AUTOVACUUM=INCREMENTAL a file never gets smaller; secure_delete overwrites what retention removes.
_PRAGMAS = (
    "PRAGMA auto_vacuum = INCREMENTAL",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA secure_delete = ON",
    "PRAGMA temp_store = MEMORY",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -65536",
    "PRAGMA busy_timeout = 5000",
)


class Connections:
    """All access to one encrypted file. Thread-safe; one process, held by a lock file beside it."""

    def __init__(self, path: Path, key: bytes) -> None:
        """Open or create ``path`` (mode 0600) with a raw key of 32 bytes and bring its schema up to date.

        Raises StoreLockedError when another process has it, StoreConfigurationError for a wrong key or newer schema.
        """
        if len(key) != 32:
            raise ValueError(f"the key of the store has {len(key)} bytes, it needs 32")
        self._path = path
        self._key = key
        self._write_lock = threading.RLock()
        self._readers: list[Any] = []
        self._readers_lock = threading.Lock()
        self._closed = False
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock_file = _take_lock(path)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
            self._writer = self._open()
            try:
                migrate(self._writer)
            except BaseException:
                self._writer.close()
                raise
        except sqlcipher.Error as error:
            os.close(self._lock_file)
            raise _translated(error) from error
        except BaseException:
            os.close(self._lock_file)
            raise

    def _open(self) -> Any:
        connection = sqlcipher.connect(
            str(self._path), isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            connection.execute("PRAGMA cipher_log_level = NONE")  # else a wrong key writes to stderr
            connection.execute(f"PRAGMA key = \"x'{self._key.hex()}'\"")
            for pragma in _PRAGMAS:
                connection.execute(pragma)
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlcipher.DatabaseError as error:
            connection.close()
            if "not a database" in str(error):
                raise StoreConfigurationError(
                    f"{self._path} does not open with this key: it is not a store of this service, or its key changed"
                ) from None
            raise _translated(error) from error
        return connection

    @contextmanager
    def read(self) -> Iterator[Any]:
        """A connection inside a read transaction: one consistent view of everything asked within."""
        with self._readers_lock:
            self._check_open()
            connection = self._readers.pop() if self._readers else None
        if connection is None:
            connection = self._open()
        try:
            connection.execute("BEGIN")
            try:
                yield connection
            finally:
                connection.execute("ROLLBACK")
        except sqlcipher.Error as error:
            raise _translated(error) from error
        finally:
            with self._readers_lock:
                keep = not self._closed and len(self._readers) < _IDLE_READERS and not connection.in_transaction
                if keep:
                    self._readers.append(connection)
            if not keep:
                connection.close()

    @contextmanager
    def write(self) -> Iterator[Any]:
        """The writer inside a transaction: all of it is durable when the block ends, or none of it happened."""
        with self._write_lock:
            self._check_open()
            connection = self._writer
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
            except sqlcipher.Error as error:
                raise _translated(error) from error

    def reclaim(self) -> None:
        """Give pages that retention freed back to the disk."""
        with self._write_lock:
            self._check_open()
            try:
                self._writer.execute("PRAGMA incremental_vacuum").fetchall()
                self._writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            except sqlcipher.Error as error:
                raise _translated(error) from error

    def close(self) -> None:
        """Close every connection and let the next process in. Twice does no harm."""
        with self._write_lock, self._readers_lock:
            if self._closed:
                return
            self._closed = True
            for connection in (*self._readers, self._writer):
                with suppress(sqlcipher.Error):
                    connection.close()
            self._readers.clear()
            os.close(self._lock_file)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailableError("the store is closed")


def _take_lock(path: Path) -> int:
    """The kernel drops the lock with the process, however it ends: nothing stale is left behind."""
    lock_path = path.with_name(path.name + ".lock")
    descriptor = os.open(lock_path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise StoreLockedError(
            f"{path} is in use by process {holder or 'unknown'}: the embedded store serves one process. "
            "Stop that one first, or let several share a MongoDB."
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _translated(error: Exception) -> StoreError:
    """No message of SQLite holds values; constraint names are ours."""
    if isinstance(error, sqlcipher.OperationalError):
        return StoreUnavailableError(f"the embedded store cannot work now: {error}")
    return StoreError(f"the embedded store failed: {error}")
