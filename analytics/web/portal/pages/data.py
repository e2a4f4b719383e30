"""Data: figures, bookings and research data as a table, as a file, and as a filter that a person keeps."""

from __future__ import annotations

import itertools
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Depends, Form, Query, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse

from analytics.accounts.rights import Right
from analytics.assemble import Site
from analytics.domain.disclosure import THRESHOLD
from analytics.domain.metrics import FIGURES
from analytics.exports import (
    Cell,
    Column,
    Export,
    Format,
    Row,
    Unit,
    booking_export,
    csv_stream,
    json_stream,
    room_export,
    write_parquet,
)
from analytics.exports import Language as FileLanguage
from analytics.figures import DEFAULT_FIGURES, NO_CLASS, Scope
from analytics.research import data_dictionary, research_export
from analytics.store.errors import StoreError
from analytics.web.portal.language import Language, t
from analytics.web.portal.view import page
from analytics.web.portal.visit import Pages, Visit, portal_of, visitor
from analytics.web.problems import ProblemError

DataVisit = Annotated[Visit, Depends(visitor(Right.EXPORT))]
PREVIEW_ROWS = 50
MOST_DAYS = 366 * 5
_MOST_FILTERS = 50
_PIECE = 1 << 16
_MEDIA = {
    Format.CSV: "text/csv; charset=utf-8",
    Format.JSON: "application/json",
    Format.PARQUET: "application/vnd.apache.parquet",
}
WHATS = ("rooms", "bookings", "research")


@dataclass(frozen=True)
class Choice:
    """What a person chose, as it stands in the address: shareable, and kept as a filter."""

    what: str
    unit: Unit
    first: date
    last: date
    buildings: tuple[str, ...]
    rooms: tuple[str, ...]
    room_class: str
    weekdays: tuple[int, ...]
    periods: tuple[str, ...]
    figures: tuple[str, ...]

    def query(self) -> str:
        """As a query string."""
        pairs: list[tuple[str, str]] = [
            ("what", self.what),
            ("unit", self.unit.value),
            ("from", self.first.isoformat()),
            ("to", self.last.isoformat()),
            ("room_class", self.room_class),
        ]
        for name, values in (("building", self.buildings), ("room", self.rooms), ("period", self.periods)):
            pairs += [(name, value) for value in values]
        pairs += [("weekday", str(day + 1)) for day in self.weekdays]
        if self.figures != DEFAULT_FIGURES:
            pairs += [("figure", name) for name in self.figures]
        return urlencode([(name, value) for name, value in pairs if value])

    def detail(self) -> dict[str, Any]:
        """For the audit log."""
        found = {
            "what": self.what,
            "unit": self.unit.value if self.what == "rooms" else "",
            "from": self.first.isoformat(),
            "to": self.last.isoformat(),
            "buildings": list(self.buildings),
            "rooms": list(self.rooms),
            "class": self.room_class,
            "weekdays": [day + 1 for day in self.weekdays],
            "periods": list(self.periods),
        }
        return {name: value for name, value in found.items() if value}


Words = Annotated[list[str], Query()]


def choice(
    request: Request,
    visit: DataVisit,
    what: str = "rooms",
    unit: str = "day",
    first: Annotated[str, Query(alias="from")] = "",
    last: Annotated[str, Query(alias="to")] = "",
    building: Words = [],  # noqa: B006
    room: Words = [],  # noqa: B006
    room_class: str = "",
    weekday: Words = [],  # noqa: B006
    period: Words = [],  # noqa: B006
    figure: Words = [],  # noqa: B006
) -> Choice:
    """Dependency: what the address says, checked. Raises ProblemError 400 with what to do."""

    def wrong(text: str) -> ProblemError:
        return ProblemError(400, "not-valid", text)

    t = visit.t
    if what not in WHATS:
        raise wrong(t("There are no data of this kind."))
    if what == "bookings":
        visit.demand(Right.SEE_EVENTS)
    today = portal_of(request).clock().astimezone(visit.zone).date()
    try:
        end = date.fromisoformat(last) if last else today - timedelta(days=1)
        start = date.fromisoformat(first) if first else end - timedelta(days=27)
        chosen_unit = Unit(unit)
        weekdays = tuple(sorted({int(day) - 1 for day in weekday if 1 <= int(day) <= 7}))
    except ValueError:
        raise wrong(t("This is not a date such as 2026-09-01.")) from None
    if not start <= end or (end - start).days >= MOST_DAYS or not 2000 <= start.year <= end.year < 2200:
        raise wrong(t("The last day lies before the first, or more than five years after it."))
    names = {p.name for p in visit.organisation.periods}
    figures = tuple(dict.fromkeys(name for name in figure if name in FIGURES)) or DEFAULT_FIGURES
    return Choice(
        what, chosen_unit, start, end, tuple(building), tuple(room), room_class, weekdays,
        tuple(name for name in period if name in names), figures,
    )  # fmt: skip


Chosen = Annotated[Choice, Depends(choice)]


def add_data_pages(pages: Pages) -> None:
    """Register the routes."""
    base = "/o/{org_id}/data"

    @pages.get(base, Right.EXPORT)
    def data(request: Request, visit: DataVisit, chosen: Chosen) -> Response:
        return _data_page(request, visit, chosen)

    @pages.get(f"{base}/export", Right.EXPORT)
    def export(
        request: Request,
        visit: DataVisit,
        chosen: Chosen,
        format: str = "csv",  # noqa: A002
        language: str = "",
    ) -> Response:
        try:
            kind = Format(format)
            written = FileLanguage(language or visit.t.code)
        except ValueError:
            raise ProblemError(400, "not-valid", visit.t("There are no data of this kind.")) from None
        found = build(request, visit, chosen)
        name = f"headroom-{visit.org_id}-{chosen.what}-{chosen.first}-{chosen.last}.{kind.value}"
        detail = {**chosen.detail(), "format": kind.value}
        content = audited(request, visit, found, lambda export: stream(export, kind, written), detail)
        headers = {"Content-Disposition": f'attachment; filename="{name}"', "X-Accel-Buffering": "no"}
        return StreamingResponse(content, media_type=_MEDIA[kind], headers=headers)

    @pages.get(f"{base}/dictionary.json", Right.EXPORT)
    def dictionary(request: Request, visit: DataVisit) -> Response:
        import json

        text = json.dumps(data_dictionary(THRESHOLD), indent=2, ensure_ascii=False)
        headers = {"Content-Disposition": 'attachment; filename="headroom-research-dictionary.json"'}
        return Response(text, media_type="application/json", headers=headers)

    @pages.post(f"{base}/filters", Right.EXPORT)
    def keep_filter(
        request: Request,
        visit: DataVisit,
        chosen: Chosen,
        name: Annotated[str, Form(max_length=80)] = "",
    ) -> Response:
        keep = portal_of(request).keep
        if len(_filters(request, visit)) >= _MOST_FILTERS:
            raise ProblemError(400, "not-valid", visit.t("You keep many filters already; remove one first."))
        value = {"user": visit.user.id, "name": name.strip() or str(chosen.first), "query": chosen.query()}
        keep.put("filter", visit.org_id, f"{visit.user.id}-{secrets.token_hex(8)}", value)
        return RedirectResponse(f"/o/{visit.org_id}/data?{chosen.query()}", 303)

    @pages.post(f"{base}/filters/remove", Right.EXPORT)
    def remove_filter(
        request: Request,
        visit: DataVisit,
        filter: Annotated[str, Form(max_length=200)] = "",  # noqa: A002
    ) -> Response:
        if filter.startswith(f"{visit.user.id}-"):  # one's own alone
            portal_of(request).keep.remove("filter", visit.org_id, filter)
        return RedirectResponse(f"/o/{visit.org_id}/data", 303)


def scope_of(visit: Visit, site: Site, chosen: Choice) -> Scope | None:
    """What was chosen, narrowed to what the person may see; None: it is not theirs to see."""
    seen = [building.id for building in visit.buildings]
    buildings = tuple(b for b in chosen.buildings if b in seen) if chosen.buildings else tuple(seen)
    rooms = tuple(r for r in chosen.rooms if r in site.rooms and site.rooms[r].building_id in buildings)
    end = chosen.last + timedelta(days=1)
    if not seen and not chosen.buildings and not chosen.rooms:
        return Scope(visit.org_id, chosen.first, end, room_class=NO_CLASS)
    if not buildings or (chosen.rooms and not rooms):
        return None  # an empty tuple would mean: all
    return Scope(
        visit.org_id, chosen.first, end, buildings, rooms, chosen.room_class,
        chosen.weekdays, chosen.periods,
    )  # fmt: skip


def build(request: Request, visit: Visit, chosen: Choice, site: Site | None = None) -> Export:
    """The export that was chosen; its rows are computed as they are read."""
    store = portal_of(request).store
    site = site or Site.load(store, visit.org_id)
    scope = scope_of(visit, site, chosen)
    if scope is None:
        raise ProblemError(404, "not-found", visit.t("There is no such room or building, or you may not see it."))
    if chosen.what == "bookings":
        whole = visit.may(Right.SEE_SMALL_COUNTS)
        return booking_export(
            store, scope, withhold_below=0 if whole else THRESHOLD, rules_of=portal_of(request).rules_of, site=site
        )
    if chosen.what == "research":
        return research_export(store, scope, site=site)
    return room_export(store, scope, chosen.unit, chosen.figures, site)


def stream(export: Export, kind: Format, language: FileLanguage) -> Iterator[bytes]:
    """The file in pieces; never the whole of it in memory."""
    if kind is Format.CSV:
        return csv_stream(export, language)
    return json_stream(export) if kind is Format.JSON else _parquet(export)


def _parquet(export: Export) -> Iterator[bytes]:
    """A Parquet file ends with what says where its parts are: it is written out first, to a file without a name."""
    with tempfile.TemporaryFile(prefix="headroom-export-") as file:
        write_parquet(export, file)
        file.seek(0)
        while piece := file.read(_PIECE):
            yield piece


def audited(
    request: Request,
    visit: Visit,
    export: Export,
    write: Callable[[Export], Iterator[bytes]],
    detail: dict[str, Any],
) -> Iterator[bytes]:
    """The pieces of a file; its last piece goes out after the audit log has filter and row count.

    A download that was broken off is in the log too, with the rows that were read until then.
    """
    portal = portal_of(request)
    rows = 0
    noted = False

    def counted(every: Iterable[Row]) -> Iterator[Row]:
        nonlocal rows
        for row in every:
            rows += 1
            yield row

    def note(complete: bool) -> None:
        nonlocal noted
        noted = True
        entry = {**detail, "rows": rows, **({} if complete else {"broken_off": True})}
        portal.audit.record(visit.org_id, visit.user.id, "export", entry, at=portal.clock())

    held: bytes | None = None
    try:
        for piece in write(replace(export, rows=counted(export.rows))):
            if held is not None:
                yield held
            held = piece
        note(complete=True)
        if held is not None:
            yield held
    finally:
        if not noted:
            note(complete=False)


def _data_page(request: Request, visit: Visit, chosen: Choice) -> Response:
    portal = portal_of(request)
    site = Site.load(portal.store, visit.org_id)
    t = visit.t
    columns: tuple[Column, ...] = ()
    rows: list[list[str]] = []
    problem, more = "", False
    try:
        found = build(request, visit, chosen, site)
        first = list(itertools.islice(found.rows, PREVIEW_ROWS + 1))
        columns, more = found.columns, len(first) > PREVIEW_ROWS
        rows = [[shown(v, c.kind, t) for v, c in zip(row, columns, strict=True)] for row in first[:PREVIEW_ROWS]]
    except ProblemError as error:
        problem = error.detail
    except StoreError:
        problem = t("The store does not answer; try again.")
    seen = {building.id for building in visit.buildings}
    rooms = sorted((r for r in site.rooms.values() if r.building_id in seen), key=lambda r: (r.building_id, r.number))
    return page(
        request,
        "data.html",
        visit,
        status=200 if not problem else 404,
        problem_text=problem,
        chosen=chosen,
        query=chosen.query(),
        columns=columns,
        numbers=[column.kind not in ("text", "date", "time") for column in columns],
        rows=rows,
        more=more,
        units=[(unit.value, t(_UNITS[unit])) for unit in Unit],
        rooms=rooms,
        classes=sorted({room.room_class for room in rooms if room.room_class}),
        figures=FIGURES,
        filters=_filters(request, visit),
        may_bookings=visit.may(Right.SEE_EVENTS),
        threshold=THRESHOLD,
    )


def shown(value: Cell, kind: str, t: Language) -> str:
    """A cell for people: a dash for no data."""
    if isinstance(value, bool):
        return t("yes") if value else t("no")
    if isinstance(value, (int, float)):
        if kind == "ratio":
            return t.percent(float(value), 1)
        return t.number(float(value), {"people": 1, "hours": 1}.get(kind, 0))
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return t.number(None) if value is None else str(value)


_UNITS = {Unit.HOUR: t("hour"), Unit.DAY: t("day"), Unit.WEEK: t("week"), Unit.MONTH: t("month")}


def _filters(request: Request, visit: Visit) -> list[dict[str, str]]:
    """The person's own, by name."""
    start = f"{visit.user.id}-"
    keep = portal_of(request).keep
    found = [k for k in keep.page("filter", visit.org_id, after=start, limit=_MOST_FILTERS) if k.id.startswith(start)]
    listed = [{"id": k.id, "name": str(k.value["name"]), "query": str(k.value["query"])} for k in found]
    return sorted(listed, key=lambda one: one["name"].casefold())
