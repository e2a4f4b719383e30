"""Settings: measuring hours, closed days, periods, and the organisation's own name and zone."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from fastapi import Depends, Form, Request, Response

from analytics import master
from analytics.accounts.rights import Right
from analytics.domain.model import Building, Closure, ClosureKind, MeasuringHours, Period, Span
from analytics.web.portal.pages.settings import (
    RoomVisit,
    Text,
    a_date,
    clean,
    go_on,
    record,
    settings_page,
    today_of,
)
from analytics.web.portal.visit import Pages, Visit, portal_of, visitor
from analytics.web.problems import ProblemError

WholeVisit = Annotated[Visit, Depends(visitor(Right.MANAGE_ROOMS))]
_SPAN = re.compile(r"\s*(\d{1,2}):(\d{2})\s*[-–]\s*(\d{1,2}):(\d{2})\s*")
_MOST_WEEKS = 60


def add_calendar_pages(pages: Pages) -> None:
    """Register the routes."""
    base = "/o/{org_id}/settings"

    @pages.get(f"{base}/hours", Right.MANAGE_ROOMS)
    def hours(request: Request, visit: RoomVisit) -> Response:
        return _hours_page(request, visit)

    @pages.post(base + "/hours/{building_id}", Right.MANAGE_ROOMS)
    def change_hours(
        request: Request,
        visit: RoomVisit,
        building_id: str,
        day0: Text = "",
        day1: Text = "",
        day2: Text = "",
        day3: Text = "",
        day4: Text = "",
        day5: Text = "",
        day6: Text = "",
    ) -> Response:
        building = _building(request, visit, building_id)
        try:
            week = MeasuringHours(tuple(spans_of(text) for text in (day0, day1, day2, day3, day4, day5, day6)))
        except ValueError as error:
            # The person's own text stands in the form again when they go back; the page says what a day looks like.
            problem = visit.t("Write the hours of a day as 07:00-22:00, several with a comma between; empty = closed.")
            return _hours_page(request, visit, problem=f"{problem} ({error})", status=400)
        master.save_building(
            portal_of(request).store, replace(building, measuring_hours=week), today_of(request, visit)
        )
        record(request, visit, "building.hours", building=building_id)
        return go_on(visit, "/hours")

    @pages.post(base + "/hours/{building_id}/close", Right.MANAGE_ROOMS)
    def close(
        request: Request,
        visit: RoomVisit,
        building_id: str,
        first: Text = "",
        last: Text = "",
        name: Text = "",
        kind: Text = "holiday",
    ) -> Response:
        begin = a_date(first, visit)
        end = (a_date(last, visit) if last.strip() else begin) + timedelta(days=1)
        if end <= begin:
            problem = visit.t("The last day lies before the first.")
            return _hours_page(request, visit, problem=problem, status=400)
        word = ClosureKind.HOLIDAY if kind == ClosureKind.HOLIDAY else ClosureKind.CLOSURE
        closure = Closure(begin, end, clean(name), word)
        every = building_id == "all"
        for building in visit.buildings if every else [_building(request, visit, building_id)]:
            if closure not in building.closures:
                closures = tuple(sorted((*building.closures, closure), key=lambda c: (c.start, c.end)))
                changed = replace(building, closures=closures)
                master.save_building(portal_of(request).store, changed, today_of(request, visit))
        record(request, visit, "closure.add", building=building_id, first=begin.isoformat(), name=closure.name)
        return go_on(visit, "/hours")

    @pages.post(base + "/hours/{building_id}/open", Right.MANAGE_ROOMS)
    def reopen(
        request: Request, visit: RoomVisit, building_id: str, start: Text = "", end: Text = "", name: Text = ""
    ) -> Response:
        building = _building(request, visit, building_id)
        kept = tuple(
            closure
            for closure in building.closures
            if (closure.start.isoformat(), closure.end.isoformat(), closure.name) != (start, end, name)
        )
        master.save_building(portal_of(request).store, replace(building, closures=kept), today_of(request, visit))
        record(request, visit, "closure.remove", building=building_id, first=start, name=name)
        return go_on(visit, "/hours")

    _add_period_pages(pages, base)


def _add_period_pages(pages: Pages, base: str) -> None:
    @pages.get(f"{base}/periods", Right.MANAGE_ROOMS)
    def periods(request: Request, visit: WholeVisit) -> Response:
        return _periods_page(request, visit)

    @pages.post(f"{base}/periods", Right.MANAGE_ROOMS)
    def add(
        request: Request,
        visit: WholeVisit,
        name: Text = "",
        first: Text = "",
        last: Text = "",
        kind: Text = "teaching",
        weekly: Text = "",
    ) -> Response:
        _whole(visit)
        begin, end = a_date(first, visit), a_date(last, visit) + timedelta(days=1)
        name = clean(name)
        if end <= begin or not name:
            problem = visit.t("A period needs a name, a first day and a last day that is not before it.")
            return _periods_page(request, visit, problem=problem, status=400)
        new = [Period(name, begin, end, clean(kind) or "teaching")]
        if weekly:
            count = min(-(-(end - begin).days // 7), _MOST_WEEKS)
            weeks = [begin + timedelta(weeks=i) for i in range(count)]
            new = [
                Period(f"{name} {i}", week, min(week + timedelta(weeks=1), end), new[0].kind)
                for i, week in enumerate(weeks, start=1)
            ]
        names = {period.name for period in visit.organisation.periods}
        if taken := sorted(names.intersection(period.name for period in new)):
            problem = visit.t("There is a period of this name already: {name}.", name=taken[0])
            return _periods_page(request, visit, problem=problem, status=400)
        _save_periods(request, visit, (*visit.organisation.periods, *new))
        record(request, visit, "period.add", name=name, count=len(new))
        return go_on(visit, "/periods")

    @pages.post(f"{base}/periods/remove", Right.MANAGE_ROOMS)
    def remove(request: Request, visit: WholeVisit, names: Annotated[list[str], Form()] = []) -> Response:  # noqa: B006
        _whole(visit)
        _save_periods(request, visit, tuple(p for p in visit.organisation.periods if p.name not in names))
        record(request, visit, "period.remove", names=names)
        return go_on(visit, "/periods")

    @pages.post(f"{base}/organisation", Right.MANAGE_ROOMS)
    def organisation(request: Request, visit: WholeVisit, name: Text = "", time_zone: Text = "") -> Response:
        _whole(visit)
        try:
            ZoneInfo(time_zone.strip())
        except (ZoneInfoNotFoundError, ValueError, OSError):
            problem = visit.t("There is no such time zone; use a name such as Europe/Amsterdam.")
            return _periods_page(request, visit, problem=problem, status=400)
        if not clean(name):
            return _periods_page(request, visit, problem=visit.t("An organisation needs a name."), status=400)
        changed = replace(visit.organisation, name=clean(name)[:120], time_zone=time_zone.strip())
        portal_of(request).store.put_organisation(changed)
        record(request, visit, "organisation.change", name=changed.name, time_zone=changed.time_zone)
        return go_on(visit, "/periods")


def spans_of(text: str) -> tuple[Span, ...]:
    """``07:00-12:00, 13:00-22:00``; empty: closed. Raises ValueError that names the piece."""
    spans = []
    for piece in text.split(","):
        if not piece.strip():
            continue
        found = _SPAN.fullmatch(piece)
        if found is None:
            raise ValueError(piece.strip())
        h1, m1, h2, m2 = (int(number) for number in found.groups())
        if m1 > 59 or m2 > 59:
            raise ValueError(piece.strip())
        try:
            spans.append(Span(h1 * 60 + m1, h2 * 60 + m2))
        except ValueError:
            raise ValueError(piece.strip()) from None
    return tuple(sorted(spans, key=lambda span: span.start))


def spans_text(spans: tuple[Span, ...]) -> str:
    """The way that `spans_of` reads."""
    return ", ".join(f"{s.start // 60:02d}:{s.start % 60:02d}-{s.end // 60:02d}:{s.end % 60:02d}" for s in spans)


def _building(request: Request, visit: Visit, building_id: str) -> Building:
    for building in visit.buildings:
        if building.id == building_id:
            visit.demand(Right.MANAGE_ROOMS, building_id)
            return building
    raise ProblemError(404, "not-found", visit.t("There is no such page."))


def _whole(visit: Visit) -> None:
    """What belongs to the organisation is changed by those who may manage all of it."""
    if visit.membership.buildings:
        raise ProblemError(403, "forbidden", visit.t("This belongs to the whole organisation, not to one building."))


def _save_periods(request: Request, visit: Visit, periods: tuple[Period, ...]) -> None:
    # Figures are grouped by period when they are read: nothing has to be computed again.
    ordered = tuple(sorted(periods, key=lambda period: (period.start, period.end, period.name)))
    portal_of(request).store.put_organisation(replace(visit.organisation, periods=ordered))


def _hours_page(request: Request, visit: Visit, *, problem: str = "", status: int = 200) -> Response:
    return settings_page(
        request,
        "settings_hours.html",
        visit,
        status=status,
        problem_text=problem,
        hours={b.id: [spans_text(spans) for spans in b.measuring_hours.weekdays] for b in visit.buildings},
        one_day=timedelta(days=1),
        today=today_of(request, visit),
    )


def _periods_page(request: Request, visit: Visit, *, problem: str = "", status: int = 200) -> Response:
    return settings_page(
        request,
        "settings_periods.html",
        visit,
        status=status,
        problem_text=problem,
        one_day=timedelta(days=1),
        may_whole=not visit.membership.buildings,
    )
