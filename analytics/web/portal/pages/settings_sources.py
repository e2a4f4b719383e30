"""Settings: timetable sources. Added by kind, tested, pulled, matched with rooms, removed. Secrets never come back."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import Depends, Request, Response

from analytics.accounts.rights import Right
from analytics.sources import LastPull, SourceError, Sources, check, pull_alone
from analytics.timetable import TimetableSource
from analytics.web.portal.pages.settings import go_on, record, settings_page
from analytics.web.portal.source_form import form_fields, settings_from
from analytics.web.portal.visit import Pages, Visit, portal_of, visitor
from analytics.web.problems import ProblemError
from timetable_adapters.base import Adapter, AdapterError, CheckResult, ConfigurationError
from timetable_adapters.discovery import adapters, load
from timetable_adapters.http import Limits

SourceVisit = Annotated[Visit, Depends(visitor(Right.MANAGE_SOURCES))]
_IMPATIENT = Limits(attempts=2, read_seconds=20.0, longest_wait=5.0)
"""Somebody waits for the page; at night there is more time."""
_MOST_FIELDS = 200
_LIMITS = {"look_back_days": (0, 60), "horizon_days": (1, 400), "every_hours": (1, 168)}


async def form_of(request: Request) -> dict[str, str]:
    """The fields of a form whose names are known at run time only."""
    form = await request.form(max_files=0, max_fields=_MOST_FIELDS)
    return {name: value for name, value in form.items() if isinstance(value, str)}


Form = Annotated[dict[str, str], Depends(form_of)]


def add_source_pages(pages: Pages) -> None:
    """Register the routes."""
    base = "/o/{org_id}/settings/sources"

    @pages.get(base, Right.MANAGE_SOURCES)
    def sources(request: Request, visit: SourceVisit) -> Response:
        return _list_page(request, visit)

    @pages.get(f"{base}/new", Right.MANAGE_SOURCES)
    def new(request: Request, visit: SourceVisit, kind: str = "csv") -> Response:
        return _form_page(request, visit, _adapter(visit, kind))

    @pages.post(f"{base}/new", Right.MANAGE_SOURCES)
    def add(request: Request, visit: SourceVisit, form: Form) -> Response:
        adapter = _adapter(visit, form.get("kind", ""))
        source = TimetableSource(
            org_id=visit.org_id,
            id=form.get("source_id", "").strip(),
            kind=adapter.name,
            settings=settings_from(adapter.Settings, _settings_of(form)),
            **_options(visit, form),
        )

        def keep() -> None:
            _refuse_inside(request, visit, source)
            _sources(request).add(source)

        if problem := _trying(keep):
            return _form_page(request, visit, adapter, given=form, problem=problem)
        record(request, visit, "source.add", source=source.id, kind=source.kind)
        return go_on(visit, f"/sources/{source.id}")

    @pages.get(base + "/{source_id}", Right.MANAGE_SOURCES)
    def source(request: Request, visit: SourceVisit, source_id: str) -> Response:
        found = _source(request, visit, source_id)
        return _form_page(request, visit, _adapter(visit, found.kind), found)

    @pages.post(base + "/{source_id}", Right.MANAGE_SOURCES)
    def change(request: Request, visit: SourceVisit, source_id: str, form: Form) -> Response:
        old = _source(request, visit, source_id)
        adapter = _adapter(visit, old.kind)
        settings = settings_from(adapter.Settings, _settings_of(form), old.settings)
        changed = replace(old, settings=settings, **_options(visit, form), room_map=_room_map(request, visit, form))

        def keep() -> None:
            _refuse_inside(request, visit, changed)
            _refuse_moved_secret(adapter, old, changed, _settings_of(form))
            _sources(request).change(changed)

        if problem := _trying(keep):
            return _form_page(request, visit, adapter, old, given=form, problem=problem)
        record(request, visit, "source.change", source=old.id, names=changed.booker_names)
        return go_on(visit, f"/sources/{old.id}")

    @pages.post(base + "/{source_id}/test", Right.MANAGE_SOURCES)
    def test(request: Request, visit: SourceVisit, source_id: str) -> Response:
        found = _source(request, visit, source_id)
        adapter = _adapter(visit, found.kind)
        try:
            result = check(found, limits=_IMPATIENT)
        except AdapterError as error:
            return _form_page(request, visit, adapter, found, problem=str(error))
        return _form_page(request, visit, adapter, found, result=result)

    @pages.post(base + "/{source_id}/pull", Right.MANAGE_SOURCES)
    def pull(request: Request, visit: SourceVisit, source_id: str) -> Response:
        found = _source(request, visit, source_id)
        portal = portal_of(request)
        try:
            last = pull_alone(
                portal.store, _sources(request), visit.org_id, found.id, "portal", portal.clock, limits=_IMPATIENT
            )
        except SourceError as error:
            return _form_page(request, visit, _adapter(visit, found.kind), found, problem=str(error))
        record(request, visit, "source.pull", source=found.id, well=last is not None and not last.failure)
        return go_on(visit, f"/sources/{found.id}")

    @pages.post(base + "/{source_id}/remove", Right.MANAGE_SOURCES)
    def remove(request: Request, visit: SourceVisit, source_id: str) -> Response:
        found = _source(request, visit, source_id)
        portal = portal_of(request)
        _sources(request).remove(portal.store, visit.org_id, found.id, portal.clock())
        record(request, visit, "source.remove", source=found.id)
        return go_on(visit, "/sources")


def _trying(action: Callable[[], None]) -> str:
    """What went wrong, for the person at the screen; no value of theirs is in it."""
    try:
        action()
    except (SourceError, ConfigurationError) as error:
        return str(error)
    return ""


def _sources(request: Request) -> Sources:
    return Sources(portal_of(request).keep)


def _source(request: Request, visit: Visit, source_id: str) -> TimetableSource:
    try:
        return _sources(request).get(visit.org_id, source_id)
    except SourceError:
        raise ProblemError(404, "not-found", visit.t("There is no such page.")) from None


def _adapter(visit: Visit, kind: str) -> type[Adapter[Any]]:
    try:
        return load(kind)
    except ConfigurationError:
        raise ProblemError(404, "not-found", visit.t("There is no such page.")) from None


def _settings_of(form: Mapping[str, str]) -> dict[str, str]:
    return {name.removeprefix("s."): value for name, value in form.items() if name.startswith("s.")}


def _options(visit: Visit, form: Mapping[str, str]) -> dict[str, Any]:
    """The source's own fields, beside the adapter's settings."""
    found: dict[str, Any] = {
        "booker_names": "booker_names" in form,
        "titles": "titles" in form,
        "enabled": "enabled" in form,
    }
    for name, (least, most) in _LIMITS.items():
        text = form.get(name, "").strip()
        if text:
            if not (text.isascii() and text.isdigit()) or not least <= int(text) <= most:
                problem = visit.t("Give a whole number from {least} to {most}.", least=least, most=most)
                raise ProblemError(400, "not-valid", problem)
            found[name] = int(text)
    return found


def _room_map(request: Request, visit: Visit, form: Mapping[str, str]) -> dict[str, str]:
    """``their name = our room's id`` a line; ids that we do not have are refused, so that no plan gets lost."""
    known = {room.id for room in portal_of(request).store.rooms(visit.org_id)}
    found = {}
    for line in form.get("room_map", "").splitlines():
        theirs, separator, ours = (part.strip() for part in line.rpartition("="))
        if not line.strip():
            continue
        if not separator or not theirs or ours not in known:
            raise ProblemError(400, "not-valid", visit.t("There is no room of this id: {line}", line=line.strip()[:80]))
        found[theirs] = ours
    return found


def _refuse_inside(request: Request, visit: Visit, source: TimetableSource) -> None:
    """A customer must not read files of the service's machine, nor reach its other services, through a source.

    The provider's own command line may name files; where one organisation is served, loopback may be named too.
    """
    location = str(source.settings.get("location", ""))
    if source.kind == "csv" and location and urlsplit(location).scheme not in ("https", "http"):
        raise SourceError(
            visit.t("Here only addresses can be named; files of the machine are for: headroom timetable add.")
        )
    if len(portal_of(request).store.organisations()) < 2:
        return
    for text in _texts(source.settings):
        if _is_inside(urlsplit(text).hostname if "://" in text else None):
            raise SourceError(visit.t("This address is inside the service's own network."))


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        return [text for one in value.values() for text in _texts(one)]
    return [value] if isinstance(value, str) else []


def _is_inside(host: str | None) -> bool:
    if host is None:
        return False
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        return host == "localhost" or host.endswith((".localhost", ".internal", ".local"))


def _refuse_moved_secret(
    adapter: type[Adapter[Any]], old: TimetableSource, new: TimetableSource, form: Mapping[str, str]
) -> None:
    """A kept token is never sent to another address: whoever changes the address gives the token again."""
    addresses = [
        name for name in adapter.Settings.model_fields if name.endswith("url") or name in ("location", "tenant")
    ]
    moved = any(old.settings.get(name) != new.settings.get(name) for name in addresses)
    secrets = [f.name for f in form_fields(adapter.Settings) if f.secret]
    kept = any(not form.get(name, "").strip() and old.settings.get(name) for name in secrets)
    if moved and kept:
        raise SourceError("the address changed: give the token or password again, it is not sent to another address")


def _list_page(request: Request, visit: Visit) -> Response:
    sources = _sources(request)
    found = [(source, sources.last_pull(visit.org_id, source.id)) for source in sources.of(visit.org_id)]
    kinds = {name: load(name).title for name in adapters()}
    return settings_page(request, "settings_sources.html", visit, sources=found, kinds=kinds)


def _form_page(
    request: Request,
    visit: Visit,
    adapter: type[Adapter[Any]],
    source: TimetableSource | None = None,
    *,
    given: Mapping[str, str] | None = None,
    problem: str = "",
    result: CheckResult | None = None,
) -> Response:
    fields = form_fields(adapter.Settings, source.settings if source else None)
    if given is not None:  # what was filled in stands in the form again, secrets aside
        answers = _settings_of(given)
        fields = [f if f.secret else replace(f, value=answers.get(f.name, "")) for f in fields]
    last: LastPull | None = _sources(request).last_pull(visit.org_id, source.id) if source else None
    rooms = sorted(portal_of(request).store.rooms(visit.org_id), key=lambda room: room.id) if source else []
    return settings_page(
        request,
        "settings_source.html",
        visit,
        status=400 if problem and given is not None else 200,
        problem_text=problem,
        adapter=adapter,
        source=source,
        source_id=(given or {}).get("source_id", adapter.name) if source is None else source.id,
        fields=[f for f in fields if f.required or f.secret],
        more_fields=[f for f in fields if not (f.required or f.secret)],
        last=last,
        result=result,
        room_map="\n".join(f"{theirs} = {ours}" for theirs, ours in (source.room_map if source else {}).items()),
        rooms=rooms[:300],
        options=source or TimetableSource(org_id=visit.org_id, id="new", kind=adapter.name, settings={}),
    )
