"""Group commit: what arrives while one write is under way goes to the store together in the next.

A durable write costs a disk flush, whoever shares it. One thread writes; callers wait on the event loop.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from analytics.domain.model import CountOutcome
from analytics.store.base import CountStore
from analytics.store.errors import StoreUnavailableError
from uplink.messages import CountRecord

logger = logging.getLogger(__name__)

# One store call takes at most this many: bounds the time that a lone record waits behind a flood.
MAX_GROUP_RECORDS = 4_000


@dataclass(slots=True)
class _Job:
    org_id: str
    records: Sequence[CountRecord]
    done: Callable[[list[CountOutcome] | Exception], None]


class CommitterBusyError(Exception):
    """Too many records wait for the store."""


class GroupCommitter:
    """Feeds a store from many requests with few writes."""

    def __init__(
        self,
        store: CountStore,
        *,
        waiting_records: int = 200_000,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._most = waiting_records
        self._now = now
        self._jobs: deque[_Job] = deque()
        self._waiting = 0
        self._wake = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="ingest-committer", daemon=True)
        self._thread.start()

    async def ingest(self, org_id: str, records: Sequence[CountRecord]) -> list[CountOutcome]:
        """Store `records`; returns when they are durable, one outcome each.

        Raises:
            CommitterBusyError: too many wait already; nothing was taken.
            StoreUnavailableError: the store cannot answer; some may be stored, all may be sent again.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[list[CountOutcome]] = loop.create_future()

        def settle(result: list[CountOutcome] | Exception) -> None:
            if future.done():  # the caller has gone away
                return
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)

        def done(result: list[CountOutcome] | Exception) -> None:
            try:
                loop.call_soon_threadsafe(settle, result)
            except RuntimeError:
                logger.debug("the event loop ended before its answer")

        with self._wake:
            if self._closing:
                raise StoreUnavailableError("the service is shutting down")
            if self._waiting + len(records) > self._most:
                raise CommitterBusyError(f"{self._waiting} records wait for the store")
            self._waiting += len(records)
            self._jobs.append(_Job(org_id, records, done))
            self._wake.notify()
        return await future

    def close(self) -> None:
        """Write what waits, then end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _work(self) -> None:
        while group := self._next_group():
            by_org: dict[str, list[_Job]] = {}
            for job in group:
                by_org.setdefault(job.org_id, []).append(job)
            for org_id, jobs in by_org.items():
                self._commit(org_id, jobs)

    def _next_group(self) -> list[_Job]:
        with self._wake:
            while not self._jobs and not self._closing:
                self._wake.wait()
            group: list[_Job] = []
            size = 0
            while self._jobs and (not group or size + len(self._jobs[0].records) <= MAX_GROUP_RECORDS):
                job = self._jobs.popleft()
                size += len(job.records)
                group.append(job)
            self._waiting -= size
            return group

    def _commit(self, org_id: str, jobs: list[_Job]) -> None:
        try:
            outcomes = self._store.ingest(org_id, [record for job in jobs for record in job.records], self._now())
        except Exception as error:
            if len(jobs) > 1 and not isinstance(error, StoreUnavailableError):
                for job in jobs:  # one of them is at fault: the others must not suffer
                    self._commit(org_id, [job])
                return
            if not isinstance(error, StoreUnavailableError):
                logger.exception("the store failed on %d records", len(jobs[0].records))
            for job in jobs:
                job.done(error)
            return
        place = 0
        for job in jobs:
            job.done(outcomes[place : place + len(job.records)])
            place += len(job.records)
