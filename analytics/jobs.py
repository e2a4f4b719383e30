"""Scheduled work of the service: roll-ups, timetable pulls, retention. One thread, one thing after another.

Each piece runs under a lease in the store, so that of several processes on one MongoDB one does it. A failure is logged
and counted, and the next round tries again: nothing that a scheduling system or a store does ends the thread.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from analytics import rollups
from analytics.assemble import RulesOf, default_rules
from analytics.master import Policies
from analytics.retention import RetentionJob
from analytics.rule_changes import RuleChanges
from analytics.sources import SourceError, Sources, pull_alone
from analytics.store.base import Store
from analytics.store.errors import StaleWriteError, StoreError
from analytics.store.kept import INSTALLATION, KeptStore, SealedKeep
from analytics.timetable import TimetableSource
from timetable_adapters.base import TemporaryError

logger = logging.getLogger(__name__)

ROLLUPS_EVERY = timedelta(seconds=20)
PULLS_EVERY = timedelta(minutes=1)
RETENTION_EVERY = timedelta(hours=24)
_RETENTION_LOOK = timedelta(minutes=15)
_ROLLUP_ROUNDS = 50
_PULSE_S = 1.0


@dataclass(frozen=True, slots=True)
class JobState:
    """How one kind of work fares in this process."""

    last_success: datetime | None = None
    last_failure: datetime | None = None
    runs: int = 0
    failures: int = 0


class JobStore(Store, KeptStore, Protocol):
    """What the jobs need of the store: both implementations are this."""


class Jobs:
    """The service's scheduled work.

    Args:
        store: counts, plans and sealed values.
        keep: its sealed values.
        clock: UTC now; tests inject one.
        rules_of: matching rules by building.
        patience: goes to the adapters (``limits``); their waits end when the service does.
    """

    def __init__(
        self,
        store: JobStore,
        keep: SealedKeep,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        rules_of: RulesOf = default_rules,
        **patience: Any,
    ) -> None:
        self._store = store
        self._keep = keep
        self._clock = clock
        self._rules_of = rules_of
        self._patience = {"sleep": self._wait, **patience}
        self._sources = Sources(keep)
        self._policies = Policies(keep)
        self._rule_changes = RuleChanges(store, keep, rules_of, clock)
        # Unique, and after a crash nobody else's: an old lease of the same machine is waited for like any other.
        self.holder = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._work: dict[str, tuple[timedelta, Callable[[], None]]] = {
            "rollups": (ROLLUPS_EVERY, self.roll_up),
            "pulls": (PULLS_EVERY, self.pull_due),
            "retention": (_RETENTION_LOOK, self.retain),
        }
        self.states = {name: JobState() for name in self._work}
        self.pulse = time.monotonic()

    # -- the thread

    def start(self) -> None:
        """Begin; the first round runs at once."""
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
        self._thread.start()

    def stop(self, timeout: float = 15.0) -> None:
        """End after what is under way; a wait for a scheduling system is cut short."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                logger.warning("scheduled work is still under way; it ends with the process")

    @property
    def started(self) -> bool:
        """Whether this process does scheduled work at all."""
        return self._thread is not None

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        due = {name: self._clock() for name in self._work}
        while not self._stop.is_set():
            self.pulse = time.monotonic()
            for name, (every, _) in self._work.items():
                now = self._clock()
                if not self._stop.is_set() and now >= due[name]:
                    self.run(name)
                    due[name] = now + every
            self._stop.wait(_PULSE_S)

    def run(self, name: str) -> bool:
        """One round of one kind of work. Whatever goes wrong is logged and counted, and never raised."""
        state = self.states[name]
        try:
            self._work[name][1]()
        except Exception as error:
            # A driver's own text may quote what it was given: its type says enough, unless it is ours.
            logger.error("%s failed: %s", name, error if isinstance(error, StoreError) else type(error).__name__)
            logger.debug("%s failed", name, exc_info=True)
            self.states[name] = replace(
                state, last_failure=self._clock(), runs=state.runs + 1, failures=state.failures + 1
            )
            return False
        self.states[name] = replace(state, last_success=self._clock(), runs=state.runs + 1)
        return True

    def _wait(self, seconds: float) -> None:
        if self._stop.wait(seconds):
            raise TemporaryError("the service is ending; the pull is made again when it is back")

    # -- the work

    def roll_up(self) -> None:
        """Bring roll-ups up to date with what arrived, and with rules that are others than before."""
        self._rule_changes.follow()
        for _ in range(_ROLLUP_ROUNDS):
            if self._stop.is_set() or not rollups.refresh_all(
                self._store, self.holder, self._clock(), rules_of=self._rules_of
            ):
                return

    def pull_due(self) -> None:
        """Pull every source that is due, each organisation at its own night."""
        for organisation in self._store.organisations():
            zone = ZoneInfo(organisation.time_zone)
            for source in self._sources.of(organisation.id):
                if self._stop.is_set():
                    return
                if source.enabled and self._sources.due(source, zone) <= self._clock():
                    self._pull_one(source, zone)

    def _pull_one(self, source: TimetableSource, zone: ZoneInfo) -> None:
        def still_due(newest: TimetableSource) -> bool:
            return newest.enabled and self._sources.due(newest, zone) <= self._clock()

        try:
            pull_alone(
                self._store, self._sources, source.org_id, source.id, self.holder, self._clock,
                only_if=still_due, **self._patience,
            )  # fmt: skip
        except SourceError as error:  # removed meanwhile, or another process is at it
            logger.debug("timetable %s of %s: %s", source.id, source.org_id, error)

    def retain(self) -> None:
        """Remove what was kept long enough, once a day over all processes."""
        last = self._keep.get("job", INSTALLATION, "retention")
        now = self._clock()
        if last is not None and now - datetime.fromisoformat(last.value["at"]) < RETENTION_EVERY:
            return
        done = RetentionJob(self._store, self._policies.retention, self.holder, self._clock).run()
        if done is None:
            return
        self._store.expire_kept(now)
        self._forget_filters()
        try:
            value = {"at": now.astimezone(UTC).isoformat()}
            self._keep.put("job", INSTALLATION, "retention", value, replaces=last.version if last else 0)
        except StaleWriteError:
            logger.debug("another process noted the retention too")

    def _forget_filters(self) -> None:
        """Saved filters of people who are gone go with them."""
        for organisation in self._store.organisations():
            for kept in self._keep.every("filter", organisation.id):
                if self._keep.get("user", INSTALLATION, str(kept.value["user"])) is None:
                    self._keep.remove("filter", organisation.id, kept.id)
