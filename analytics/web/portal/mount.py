"""The portal as part of an application: pages, static files, error pages, headers."""

from __future__ import annotations

from functools import cache

from fastapi import FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles

from analytics.web.portal.core import HERE, Portal
from analytics.web.portal.pages.audit import add_audit_page
from analytics.web.portal.pages.data import add_data_pages
from analytics.web.portal.pages.figures import add_figure_pages
from analytics.web.portal.pages.login import add_login_pages
from analytics.web.portal.pages.sensors import add_sensor_pages
from analytics.web.portal.pages.sensors_care import add_care_pages
from analytics.web.portal.pages.settings import add_settings_pages
from analytics.web.portal.pages.settings_calendar import add_calendar_pages
from analytics.web.portal.pages.settings_retention import add_retention_pages
from analytics.web.portal.pages.settings_rules import add_rule_pages
from analytics.web.portal.pages.settings_sources import add_source_pages
from analytics.web.portal.pages.users import add_user_pages
from analytics.web.portal.security import SecurityHeaders
from analytics.web.portal.view import add_error_pages
from analytics.web.portal.visit import PUBLIC, Pages

MACHINE_PATHS = ("/v1/",)
"""Paths of callers that are no browsers: they prove themselves by signature or token, never by cookie."""


def all_pages() -> Pages:
    """Every page with its rule."""
    pages = Pages()
    add_login_pages(pages)
    add_user_pages(pages)
    add_audit_page(pages)
    add_data_pages(pages)
    add_sensor_pages(pages)
    add_care_pages(pages)
    add_settings_pages(pages)
    add_calendar_pages(pages)
    add_rule_pages(pages)
    add_source_pages(pages)
    add_retention_pages(pages)
    add_figure_pages(pages)

    @pages.get("/static/plotly.min.js", PUBLIC)
    def plotly(request: Request) -> Response:
        body, tag = _plotly()
        headers = {"Cache-Control": "public, max-age=86400", "ETag": tag}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type="text/javascript", headers=headers)

    return pages


def mount_portal(app: FastAPI, portal: Portal) -> Pages:
    """Add the portal to an application. Returns its pages with their rules."""
    app.state.portal = portal
    pages = all_pages()
    app.include_router(pages.router)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    add_error_pages(app)
    app.add_middleware(SecurityHeaders, https=portal.https, exempt=MACHINE_PATHS)
    return pages


@cache
def _plotly() -> tuple[str, str]:
    """plotly.js from the installed package, and its version as an ETag."""
    from plotly.offline import get_plotlyjs, get_plotlyjs_version

    return str(get_plotlyjs()), f'"plotly-{get_plotlyjs_version()}"'
