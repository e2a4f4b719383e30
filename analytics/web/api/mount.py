"""The API as part of an application."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

from analytics.jobs import Jobs
from analytics.store.errors import StoreError
from analytics.web.api.access import Api, Guard
from analytics.web.api.figures import add_figure_routes
from analytics.web.api.master import add_master_routes
from analytics.web.api.service import add_service_routes
from analytics.web.problems import ProblemError


def all_routes() -> Api:
    """Every route with its rule."""
    api = Api()
    add_master_routes(api)
    add_figure_routes(api)
    return api


def mount_api(app: FastAPI, jobs: Jobs) -> Api:
    """Add the API, ``/readyz`` and ``/metrics`` to an application that has a portal. Returns its routes with rules."""
    api = all_routes()
    app.state.api_guard = Guard()
    app.include_router(api.router)
    add_service_routes(app, jobs)
    app.add_exception_handler(StoreError, _store_failed)
    return api


async def _store_failed(_: Request, error: Exception) -> Response:
    """The same for pages and API: nothing was changed by half, and it is worth trying again."""
    return ProblemError(503, "store-unavailable", "the store cannot answer now; try again", retry_after=5).response()
