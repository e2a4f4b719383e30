"""The provider's orders about timetables: to the running service over its own socket, or to the store where none runs.

As with sensors (`analytics.admin`): the embedded store serves one process, so orders go to that process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol
from zoneinfo import ZoneInfo

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from analytics.admin import own_store, service_listens
from analytics.admin_socket import call, order
from analytics.enrolment import AdministrationError
from analytics.jobs import JobStore
from analytics.service_keys import load_or_create
from analytics.settings import ServiceSettings
from analytics.sources import LastPull, SourceError, Sources, check, pull_alone
from analytics.store.kept import SealedKeep
from analytics.timetable import DEFAULT_HORIZON_DAYS, DEFAULT_LOOK_BACK_DAYS, TimetableSource
from timetable_adapters.base import AdapterError

_PATH = "/timetables"
_LONGEST_S = 1800.0


class NewSource(BaseModel):
    """The order to add a source."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(max_length=64)
    organisation: str | None = None
    kind: str = Field(max_length=64)
    settings: dict[str, Any] = Field(repr=False)
    booker_names: bool = False
    titles: bool = True
    look_back_days: int = Field(DEFAULT_LOOK_BACK_DAYS, ge=0, le=60)
    horizon_days: int = Field(DEFAULT_HORIZON_DAYS, ge=1, le=400)
    every_hours: int = Field(24, ge=1, le=168)


class SourceOrder(BaseModel):
    """The order to do something with a source."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field(max_length=64)
    organisation: str | None = None


class PullView(BaseModel):
    """What the last pull of a source did."""

    at: datetime
    failure: str
    succeeded_at: datetime | None
    bookings: int
    new: int
    changed: int
    removed: int
    unchanged: int
    rooms_matched: int
    rooms_unmatched: list[str]
    rooms_unmatched_count: int
    rooms_ambiguous: list[str]
    rooms_not_found: list[str]

    @classmethod
    def of(cls, last: LastPull) -> PullView:
        return cls(
            at=last.at,
            failure=last.failure,
            succeeded_at=last.succeeded_at,
            bookings=last.bookings,
            new=last.result.new + last.result.revived,
            changed=last.result.changed,
            removed=last.result.removed,
            unchanged=last.result.unchanged,
            rooms_matched=last.matched,
            rooms_unmatched=list(last.unmatched),
            rooms_unmatched_count=last.unmatched_count,
            rooms_ambiguous=list(last.ambiguous),
            rooms_not_found=list(last.not_found),
        )


class SourceView(BaseModel):
    """A source, without its settings: those hold another system's token."""

    id: str
    organisation: str
    kind: str
    enabled: bool
    booker_names: bool
    next_pull: datetime | None
    last_pull: PullView | None


class CheckView(BaseModel):
    """What a check found."""

    rooms: int
    remarks: list[str]


class Desk(Protocol):
    """What can be ordered. All raise AdministrationError with the reason."""

    def sources(self, organisation: str | None) -> list[SourceView]: ...
    def add(self, source: NewSource) -> SourceView: ...
    def remove(self, order: SourceOrder) -> SourceView: ...
    def check(self, order: SourceOrder) -> CheckView: ...
    def pull(self, order: SourceOrder) -> PullView: ...


class DirectDesk:
    """Acts on the store of this process.

    Args:
        patience: goes to the adapters; tests give one that does not wait.
    """

    def __init__(
        self,
        store: JobStore,
        keep: SealedKeep,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        **patience: Any,
    ) -> None:
        self._store = store
        self._sources = Sources(keep)
        self._clock = clock
        self._patience = patience

    def sources(self, organisation: str | None) -> list[SourceView]:
        chosen = [organisation] if organisation else [known.id for known in self._store.organisations()]
        for org_id in chosen:
            self._organisation(org_id)
        return [self._view(source) for org_id in chosen for source in self._sources.of(org_id)]

    def add(self, source: NewSource) -> SourceView:
        fields = source.model_dump(exclude={"organisation"})
        made = TimetableSource(org_id=self._organisation(source.organisation), **fields)
        with _refusals():
            self._sources.add(made)
        return self._view(made)

    def remove(self, order: SourceOrder) -> SourceView:
        with _refusals():
            source = self._sources.get(self._organisation(order.organisation), order.id)
            view = self._view(source)
            self._sources.remove(self._store, source.org_id, source.id, self._clock())
        return view

    def check(self, order: SourceOrder) -> CheckView:
        with _refusals():
            source = self._sources.get(self._organisation(order.organisation), order.id)
            found = check(source, **self._patience)
        return CheckView(rooms=found.rooms, remarks=list(found.remarks))

    def pull(self, order: SourceOrder) -> PullView:
        with _refusals():
            org_id = self._organisation(order.organisation)
            last = pull_alone(
                self._store, self._sources, org_id, order.id, "command line", self._clock, **self._patience
            )
        assert last is not None
        return PullView.of(last)

    def _organisation(self, given: str | None) -> str:
        known = [organisation.id for organisation in self._store.organisations()]
        if given is None and len(known) == 1:
            return known[0]
        if given not in known:
            said = f"there is no organisation {given!r}" if given else "there are several organisations"
            raise AdministrationError(f"{said}; name one with --organisation: {', '.join(known)}")
        assert given is not None
        return given

    def _view(self, source: TimetableSource) -> SourceView:
        last = self._sources.last_pull(source.org_id, source.id)
        zone = ZoneInfo(self._store.organisation(source.org_id).time_zone)
        due = max(self._sources.due(source, zone), self._clock())
        return SourceView(
            id=source.id,
            organisation=source.org_id,
            kind=source.kind,
            enabled=source.enabled,
            booker_names=source.booker_names,
            next_pull=due if source.enabled else None,
            last_pull=None if last is None else PullView.of(last),
        )


@contextmanager
def _refusals() -> Iterator[None]:
    """Messages of these errors hold no secret and no name (`timetable_adapters.errors`)."""
    try:
        yield
    except (SourceError, AdapterError) as error:
        raise AdministrationError(str(error)) from None


def desk_router(desk: DirectDesk) -> APIRouter:
    """The desk's half on the administrator's socket."""
    router = APIRouter(prefix=_PATH)

    @router.get("")
    async def sources(organisation: str | None = None) -> list[SourceView]:
        found: list[SourceView] = await order(desk.sources, organisation)
        return found

    @router.post("/add")
    async def add(source: NewSource) -> SourceView:
        made: SourceView = await order(desk.add, source)
        return made

    @router.post("/remove")
    async def remove(asked: SourceOrder) -> SourceView:
        gone: SourceView = await order(desk.remove, asked)
        return gone

    @router.post("/check")
    async def check_source(asked: SourceOrder) -> CheckView:
        found: CheckView = await order(desk.check, asked)
        return found

    @router.post("/pull")
    async def pull(asked: SourceOrder) -> PullView:
        done: PullView = await order(desk.pull, asked)
        return done

    return router


class SocketDesk:
    """Gives orders to the running service."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._path = settings.admin_socket

    def sources(self, organisation: str | None) -> list[SourceView]:
        query = f"?organisation={organisation}" if organisation and organisation.replace("-", "").isalnum() else ""
        return [SourceView.model_validate(entry) for entry in self._call("GET", query)]

    def add(self, source: NewSource) -> SourceView:
        return SourceView.model_validate(self._call("POST", "/add", source))

    def remove(self, order: SourceOrder) -> SourceView:
        return SourceView.model_validate(self._call("POST", "/remove", order))

    def check(self, order: SourceOrder) -> CheckView:
        return CheckView.model_validate(self._call("POST", "/check", order))

    def pull(self, order: SourceOrder) -> PullView:
        return PullView.model_validate(self._call("POST", "/pull", order))

    def _call(self, method: str, path: str, body: BaseModel | None = None) -> Any:
        text = None if body is None else body.model_dump_json()
        # A pull may have to wait for a slow system.
        return call(self._path, method, _PATH + path, text, timeout=_LONGEST_S)


@contextmanager
def open_desk(settings: ServiceSettings) -> Iterator[Desk]:
    """The way to give orders now: the running service when there is one, the store otherwise.

    Raises:
        AdministrationError: another process holds the store and does not listen.
        KeyFileError, StoreError: keys or store cannot be opened.
    """
    from analytics.runtime import ensure_organisation

    if service_listens(settings):
        yield SocketDesk(settings)
        return
    keys = load_or_create(settings.data, settings.keys)
    with own_store(settings, keys) as store:
        ensure_organisation(store, settings)
        yield DirectDesk(store, SealedKeep(store, keys.store))
