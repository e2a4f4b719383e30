"""Templates, and errors as pages for people."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup
from starlette.exceptions import HTTPException

from analytics.accounts.rights import Right, Role
from analytics.web.portal.core import HERE
from analytics.web.portal.language import Language
from analytics.web.portal.visit import Guest, LoginNeededError, Visit, find_guest, language_of
from analytics.web.problems import ProblemError, framework_problem

Entries = tuple[tuple[str, str, Right], ...]  # (path below the organisation, text, right)
MENU: Entries = (
    ("now", "Now", Right.SEE_FIGURES),
    ("overview", "Overview", Right.SEE_FIGURES),
    ("rooms", "Rooms", Right.SEE_FIGURES),
    ("bookings", "Bookings", Right.SEE_EVENTS),
    ("compare", "Compare", Right.SEE_FIGURES),
    ("data", "Data", Right.EXPORT),
)
MANAGE: Entries = (
    ("sensors", "Sensors", Right.SEE_SENSORS),
    ("settings", "Settings", Right.MANAGE_ROOMS),
    ("users", "Users and rights", Right.MANAGE_USERS),
    ("audit", "Audit", Right.SEE_AUDIT),
)
_ON_ONE_LINE = 7
"""With more entries than these, what is managed folds away under one word: the header stays one line at 1024 pixels."""

templates = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=select_autoescape(default=True, default_for_string=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def data_block(value: Any) -> Markup:
    """A value as the text of ``<script type="application/json">``: data for the charts, never code.

    ``<``, ``>`` and ``&`` are escaped, so a room's name cannot end the block.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))  # noqa: S704


templates.filters["data_block"] = data_block
templates.globals.update(Right=Right, Role=Role)


def page(request: Request, name: str, visit: Visit, *, status: int = 200, **context: Any) -> HTMLResponse:
    """A page inside an organisation."""
    menu, manage = _entries(request, visit, MENU), _entries(request, visit, MANAGE)
    if len(menu) + len(manage) <= _ON_ONE_LINE:
        menu, manage = menu + manage, []
    others = [m.org_id for m in visit.user.memberships if m.org_id != visit.org_id]
    base = {
        "request": request,
        "visit": visit,
        "user": visit.user,
        "t": visit.t,
        "menu": menu,
        "manage": manage,
        "other_orgs": others,
    }
    return HTMLResponse(templates.get_template(name).render(**base, **context), status)


def bare_page(
    request: Request, name: str, t: Language, *, who: Guest | None = None, status: int = 200, **context: Any
) -> HTMLResponse:
    """A page outside of any organisation: login, invitation, account, error."""
    base: dict[str, Any] = {
        "request": request,
        "visit": None,
        "user": who.user if who else None,
        "t": t,
        "menu": [],
        "manage": [],
        "other_orgs": [],
    }
    return HTMLResponse(templates.get_template(name).render(**base, **context), status)


def _entries(request: Request, visit: Visit, entries: Entries) -> list[dict[str, Any]]:
    return [
        {"href": f"/o/{visit.org_id}/{path}", "text": visit.t(text), "here": _is_here(request, visit.org_id, path)}
        for path, text, right in entries
        if visit.may(right)
    ]


def _is_here(request: Request, org_id: str, path: str) -> bool:
    return (request.url.path + "/").startswith(f"/o/{org_id}/{path}/")


def add_error_pages(app: FastAPI) -> None:
    """Browsers get pages, everybody else problem documents."""

    async def login_first(request: Request, error: Exception) -> Response:
        assert isinstance(error, LoginNeededError)
        if not _wants_page(request):
            return ProblemError(401, "login-needed", "log in first").response()
        return RedirectResponse(f"/login?next={quote(error.path, safe='/')}", 303)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)
        if not _wants_page(request) or request.url.path.startswith("/v1/"):
            return error.response()
        who = find_guest(request)
        t = who.t if who else language_of(request, None)
        response = bare_page(
            request, "error.html", t, who=who, status=error.status, code=error.status, detail=t(error.detail)
        )
        response.headers.update(error.headers)
        return response

    async def no_such_page(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if not _wants_page(request):
            return await framework_problem(request, error)
        kind = {404: "not-found", 405: "wrong-method"}.get(error.status_code, "refused")
        text = "There is no such page." if error.status_code in (404, 405) else str(error.detail)
        return await refused(request, ProblemError(error.status_code, kind, text, headers=error.headers or {}))

    app.add_exception_handler(HTTPException, no_such_page)
    app.add_exception_handler(LoginNeededError, login_first)
    app.add_exception_handler(ProblemError, refused)


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")
