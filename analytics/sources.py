"""Timetable sources as they are kept: settings sealed, with what the last pull did beside them.

A source's settings hold another system's token, so the whole of it is a sealed value. The report of the last pull is a
value of its own: pulling never races with somebody who edits the source.
"""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from analytics.domain.model import PullResult
from analytics.store.base import Store
from analytics.store.errors import StaleWriteError
from analytics.store.kept import Kept, SealedKeep
from analytics.timetable import PullReport, TimetableSource, next_pull, pull
from timetable_adapters.base import AdapterError, CheckResult, TemporaryError

logger = logging.getLogger(__name__)

_SOURCE, _PULL = "source", "source-pull"
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_SHOWN = 200  # rooms of a report that are kept; the counts are always whole
_LONGEST_BACK_OFF = timedelta(hours=24)
LEASE_TIME = timedelta(minutes=30)


class SourceError(Exception):
    """An order about a source that cannot be carried out; the message says why and holds no secret."""


@dataclass(frozen=True, slots=True)
class LastPull:
    """What the last pull of a source did. Instants are UTC; rooms are those of the scheduling system.

    Attributes:
        failure: why it failed; empty when it went well. Fit for people: no secret, no personal data.
        retry_after: seconds that the system asked to be left alone.
        failures: failures in a row.
        succeeded_at: the last time that it went well, this one included.
        unmatched: rooms of the system that fit none of ours, as text; ``ambiguous`` those that fit several.
        not_found: ids of our rooms that the system does not show.
    """

    at: datetime
    failure: str = ""
    retry_after: float | None = None
    failures: int = 0
    succeeded_at: datetime | None = None
    bookings: int = 0
    result: PullResult = field(default_factory=PullResult)
    matched: int = 0
    unmatched: tuple[str, ...] = ()
    unmatched_count: int = 0
    ambiguous: tuple[str, ...] = ()
    not_found: tuple[str, ...] = ()
    without_length: int = 0


class Sources:
    """The sources of all organisations."""

    def __init__(self, keep: SealedKeep) -> None:
        self._keep = keep

    def of(self, org_id: str) -> list[TimetableSource]:
        """The sources of an organisation, by id."""
        return [_source(org_id, kept) for kept in self._keep.every(_SOURCE, org_id)]

    def get(self, org_id: str, source_id: str) -> TimetableSource:
        """Raises SourceError."""
        kept = self._keep.get(_SOURCE, org_id, source_id)
        if kept is None:
            known = ", ".join(source.id for source in self.of(org_id)) or "none"
            raise SourceError(f"there is no source {source_id!r}; there are: {known}")
        return _source(org_id, kept)

    def add(self, source: TimetableSource) -> None:
        """Keep a new source. Raises SourceError: a bad id or one that is taken; ConfigurationError: bad settings."""
        if not _ID.fullmatch(source.id):
            raise SourceError(f"{source.id!r} is no name of a source: lower-case letters, digits and dashes")
        source.adapter()  # sends nothing; wrong settings show now and not at night
        if self._keep.get(_SOURCE, source.org_id, source.id) is not None:
            raise SourceError(f"there is a source {source.id!r} already; choose another name")
        self._keep.put(_SOURCE, source.org_id, source.id, _value(source))

    def change(self, source: TimetableSource) -> None:
        """Replace a source that exists. Raises SourceError and ConfigurationError; then nothing changed."""
        source.adapter()
        for _ in range(20):
            kept = self._keep.get(_SOURCE, source.org_id, source.id)
            if kept is None:
                raise SourceError(f"there is no source {source.id!r}")
            try:
                self._keep.put(_SOURCE, source.org_id, source.id, _value(source), replaces=kept.version)
            except StaleWriteError:
                continue
            return
        raise SourceError("the source is being changed by others; try again")

    def remove(self, store: Store, org_id: str, source_id: str, now: datetime) -> None:
        """Forget a source. Its bookings that lie ahead go with it, what has been stays. Raises SourceError."""
        source = self.get(org_id, source_id)
        self._keep.remove(_SOURCE, org_id, source_id)
        self._keep.remove(_PULL, org_id, source_id)
        store.replace_bookings(org_id, source_id, (now, now + timedelta(days=source.horizon_days + 366)), [], now)

    def last_pull(self, org_id: str, source_id: str) -> LastPull | None:
        """What the last pull did; None before the first."""
        kept = self._keep.get(_PULL, org_id, source_id)
        return None if kept is None else _last(kept.value)

    def record(self, org_id: str, source_id: str, last: LastPull) -> None:
        """Keep what a pull did. Of two that end together the later one stays."""
        for _ in range(20):
            kept = self._keep.get(_PULL, org_id, source_id)
            try:
                self._keep.put(_PULL, org_id, source_id, _last_value(last), replaces=kept.version if kept else 0)
            except StaleWriteError:
                continue
            return

    def due(self, source: TimetableSource, zone: ZoneInfo) -> datetime:
        """When the source is to be pulled next; after several failures in a row ever later, up to a day."""
        last = self.last_pull(source.org_id, source.id)
        if last is None or not last.failure:
            return next_pull(source, last.at if last else None, zone)
        soonest = next_pull(source, last.at, zone, TemporaryError(last.failure, last.retry_after))
        patience = timedelta(hours=2 ** min(last.failures - 1, 5))
        return soonest if last.failures < 2 else max(soonest, last.at + min(patience, _LONGEST_BACK_OFF))


def check(source: TimetableSource, **patience: Any) -> CheckResult:
    """Prove a source's address, token and rights. Raises AdapterError."""
    return source.adapter(**patience).check()


def pull_now(store: Store, sources: Sources, source: TimetableSource, now: datetime, **patience: Any) -> LastPull:
    """Pull a source and keep what came of it; a failure is kept too, and the plan is as it was.

    Raises:
        StoreError: the store cannot answer.
    """
    before = sources.last_pull(source.org_id, source.id)
    try:
        last = _success(pull(store, source, now, **patience), now)
        logger.info("timetable %s of %s: %d bookings, %s", source.id, source.org_id, last.bookings, last.result)
    except (AdapterError, StaleWriteError) as error:
        last = LastPull(
            now,
            failure=str(error) or type(error).__name__,
            retry_after=error.retry_after if isinstance(error, TemporaryError) else None,
            failures=(before.failures if before else 0) + 1,
            succeeded_at=before.succeeded_at if before else None,
        )
        logger.warning("timetable %s of %s was not pulled: %s", source.id, source.org_id, last.failure)
    sources.record(source.org_id, source.id, last)
    return last


def pull_alone(
    store: Store,
    sources: Sources,
    org_id: str,
    source_id: str,
    holder: str,
    clock: Callable[[], datetime],
    *,
    only_if: Callable[[TimetableSource], bool] = lambda _: True,
    **patience: Any,
) -> LastPull | None:
    """Pull a source under its lease: of all that would do it at a time one does. None: ``only_if`` said no.

    Raises:
        SourceError: there is no such source, or it is being pulled right now.
    """
    lease = store.acquire_lease(f"pull/{org_id}/{source_id}", f"{holder}/{uuid.uuid4().hex}", LEASE_TIME, clock())
    if lease is None:
        raise SourceError("this source is being pulled right now; look again in a minute")
    try:
        source = sources.get(org_id, source_id)  # as it is now that nobody else pulls it
        return pull_now(store, sources, source, clock(), **patience) if only_if(source) else None
    finally:
        store.release_lease(lease)


def _success(report: PullReport, now: datetime) -> LastPull:
    match = report.match
    unmatched = [f"{ref.ref} ({ref.name})" if ref.name and ref.name != ref.ref else ref.ref for ref in match.unmatched]
    return LastPull(
        now,
        succeeded_at=now,
        bookings=report.bookings,
        result=report.result,
        matched=len(match.rooms),
        unmatched=tuple(unmatched[:_SHOWN]),
        unmatched_count=len(unmatched),
        ambiguous=tuple(f"{ref.ref}: {', '.join(ids)}" for ref, ids in match.ambiguous[:_SHOWN]),
        not_found=match.not_found[:_SHOWN],
        without_length=report.without_length,
    )


def _value(source: TimetableSource) -> dict[str, Any]:
    return {
        "kind": source.kind,
        "settings": dict(source.settings),
        "booker_names": source.booker_names,
        "titles": source.titles,
        "look_back_days": source.look_back_days,
        "horizon_days": source.horizon_days,
        "every_hours": source.every_hours,
        "room_map": dict(source.room_map),
        "enabled": source.enabled,
    }


def _source(org_id: str, kept: Kept) -> TimetableSource:
    return TimetableSource(org_id=org_id, id=kept.id, **kept.value)


def _last_value(last: LastPull) -> dict[str, Any]:
    value = asdict(last)
    for name in ("at", "succeeded_at"):
        moment: datetime | None = value[name]
        value[name] = moment.astimezone(UTC).isoformat() if moment else None
    return value


def _last(value: Mapping[str, Any]) -> LastPull:
    def texts(name: str) -> tuple[str, ...]:
        listed: Sequence[str] = value[name]
        return tuple(listed)

    return LastPull(
        datetime.fromisoformat(value["at"]),
        failure=value["failure"],
        retry_after=value["retry_after"],
        failures=value["failures"],
        succeeded_at=datetime.fromisoformat(value["succeeded_at"]) if value["succeeded_at"] else None,
        bookings=value["bookings"],
        result=PullResult(**value["result"]),
        matched=value["matched"],
        unmatched=texts("unmatched"),
        unmatched_count=value["unmatched_count"],
        ambiguous=texts("ambiguous"),
        not_found=texts("not_found"),
        without_length=value["without_length"],
    )
