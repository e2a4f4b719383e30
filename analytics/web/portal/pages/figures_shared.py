"""Figures that another organisation shares: its buildings' figures, never its events, and every look is written down.

A look is a POST: it goes into both organisations' audit logs, and a share may demand the reader's personal PIN. The
customer sees which organisation looked, this organisation which of its people.
"""

from __future__ import annotations

from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import Depends, Form, Request, Response
from starlette.datastructures import QueryParams

from analytics.accounts.errors import CodeError, ForbiddenError
from analytics.accounts.rights import Membership, Right, Role
from analytics.accounts.shares import Share
from analytics.store.errors import NotFoundError
from analytics.web.portal.language import Language
from analytics.web.portal.pages.figures_data import FigureData, cache_of
from analytics.web.portal.pages.figures_filter import read_filter
from analytics.web.portal.pages.figures_overview import key_figures, lost, trend
from analytics.web.portal.pages.figures_rooms import COLUMNS, heads, room_rows
from analytics.web.portal.view import page
from analytics.web.portal.visit import Pages, Visit, portal_of, visitor
from analytics.web.problems import ProblemError

FigureVisit = Annotated[Visit, Depends(visitor(Right.SEE_FIGURES))]
Text = Annotated[str, Form(max_length=200)]


def add_shared_page(pages: Pages) -> None:
    """Register the routes."""

    @pages.get("/o/{org_id}/shared", Right.SEE_FIGURES)
    def shared(request: Request, visit: FigureVisit) -> Response:
        return _list(request, visit)

    @pages.post("/o/{org_id}/shared", Right.SEE_FIGURES)
    def look(
        request: Request, visit: FigureVisit, share: Text = "", pin: Text = "", first: Text = "", last: Text = ""
    ) -> Response:
        try:
            found = portal_of(request).shares.look(visit.user, visit.org_id, share, pin=pin)
        except ForbiddenError:
            raise ProblemError(404, "not-found", visit.t("This share has ended.")) from None
        except CodeError:
            return _list(request, visit, problem=visit.t("This share demands your personal PIN."), status=403)
        return _figures(request, visit, found, {"from": first, "to": last})


def _list(request: Request, visit: Visit, *, problem: str = "", status: int = 200) -> Response:
    portal = portal_of(request)
    received = sorted(portal.shares.received(visit.org_id), key=lambda share: share.label.casefold())
    names = {org.id: org.name for org in portal.store.organisations()}
    return page(
        request, "figures_shared.html", visit, status=status, problem=problem, shares=received, names=names, there=None
    )


def guest_visit(request: Request, visit: Visit, share: Share) -> Visit:
    """The reader in the other organisation: a viewer of the shared buildings, and nothing beside."""
    store = portal_of(request).store
    try:
        there = store.organisation(share.from_org)
    except NotFoundError:
        raise ProblemError(404, "not-found", visit.t("This share has ended.")) from None
    membership = Membership(there.id, Role.VIEWER, share.buildings)
    buildings = tuple(b for b in store.buildings(there.id) if b.id in share.buildings)
    t = Language(visit.user.language, ZoneInfo(there.time_zone))
    return Visit(visit.user, visit.session, there, membership, buildings, t)


def _figures(request: Request, visit: Visit, share: Share, period: dict[str, str]) -> Response:
    portal, there = portal_of(request), guest_visit(request, visit, share)
    data = FigureData(portal.store, cache_of(request), there, portal.clock, portal.rules_of)
    choice = read_filter(QueryParams(period), there, data.site, data.usual())
    rooms = choice.rooms(data.site, data.visible)
    sums = data.sums(choice, rooms)
    return page(
        request,
        "figures_shared.html",
        visit,
        problem="",
        there=there,
        share=share,
        f=choice,
        sums=sums,
        keys=key_figures(there.t, sums.total(), sums.weeks(choice), data.patience) if sums.days and sums.rooms else [],
        trend=trend(there.t, sums) if sums.days and sums.rooms else None,
        lost=lost(there.t, sums) if sums.days and sums.rooms else None,
        heads=heads(there.t),
        rows=room_rows(data, choice, rooms, data.room_figures(choice, rooms, COLUMNS)),
    )
