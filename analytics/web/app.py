"""The composition root of the service's web side: what is put together, and nothing else.

Three applications share one set of `Services`: the whole (this machine, behind a TLS proxy for people), the counts'
door (the tunnel's address: a sensor must not reach the portal), and the blank sensors' door (an address that is
reachable before there is a tunnel).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from analytics.care import Care
from analytics.enrolment import Enrolment
from analytics.ingest.door import IngestDoor
from analytics.ingest.router import SCHEMAS, SECURITY_SCHEMES, ingest_router
from analytics.jobs import Jobs
from analytics.service_keys import ServiceKeys, load_or_create
from analytics.settings import ServiceSettings
from analytics.site_rules import load_rules
from analytics.store.base import Store
from analytics.store.errors import StoreError
from analytics.web.api.access import SECURITY_SCHEMES as API_SCHEMES
from analytics.web.api.mount import mount_api
from analytics.web.bodies import BoundedBodies
from analytics.web.care import care_router
from analytics.web.enrolment import enrolment_router
from analytics.web.portal.core import Portal, PortalStore
from analytics.web.portal.mount import mount_portal
from analytics.web.problems import Problem, ProblemError, add_problem_handlers, problem_responses
from analytics.web.proxy import BehindProxy


@dataclass(frozen=True)
class Services:
    """What the routers share.

    The portal's master key is the store's (``ServiceKeys.store``): sealed values, the index of mail addresses, bookers'
    names and the embedded file each have a key of their own that is derived from it for that one purpose
    (`analytics.store.sealing.derive_key`). So what the store holds opens with the one key that was kept for it.
    """

    settings: ServiceSettings
    store: PortalStore
    keys: ServiceKeys
    door: IngestDoor
    enrolment: Enrolment
    portal: Portal
    jobs: Jobs

    @classmethod
    def build(
        cls,
        settings: ServiceSettings,
        store: PortalStore,
        keys: ServiceKeys | None = None,
        *,
        on_sensor_change: Callable[[], None] = lambda: None,
    ) -> Services:
        """Put them together. Raises KeyFileError when the keys cannot be read, RulesError for a wrong rules.toml."""
        keys = keys or load_or_create(settings.data, settings.keys)
        network = settings.tunnel.network if settings.tunnel else None
        door = IngestDoor(store, keys.master, keys.seal, limits=settings.limits, tunnel=network)
        rules_of = load_rules(settings.data)
        portal = Portal.build(store, keys.store, https=settings.https, rules_of=rules_of)
        care = Care(portal.keep)
        enrolment = Enrolment(
            store,
            keys,
            settings,
            on_change=on_sensor_change,
            on_revoke=lambda sensor: care.forget(sensor.org_id, sensor.id),
        )
        return cls(settings, store, keys, door, enrolment, portal, Jobs(store, portal.keep, rules_of=rules_of))

    @property
    def care(self) -> Care:
        """What sensors say of themselves, and what they are told."""
        return Care(self.portal.keep)

    def close(self) -> None:
        """End scheduled work and write what was taken in. The store stays open: its owner closes it."""
        self.jobs.stop()
        self.door.close()


def create_app(settings: ServiceSettings, store: PortalStore, services: Services | None = None) -> FastAPI:
    """The whole service. Closes the services it makes itself when it ends; those given are their owner's."""
    owned = services is None
    parts = services or Services.build(settings, store)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        if owned:
            await asyncio.to_thread(parts.close)

    app = _application("Headroom", lifespan=lifespan)
    app.state.services = parts
    _add_health(app, store)
    app.include_router(ingest_router(parts.door))
    app.include_router(care_router(parts.door, parts.care))
    app.include_router(enrolment_router(parts.enrolment, settings.limits))
    mount_portal(app, parts.portal)
    mount_api(app, parts.jobs)
    app.add_middleware(BoundedBodies)
    if settings.behind_proxy or settings.public_url is not None:
        app.add_middleware(BehindProxy, public_url=settings.public_url)
    return app


def create_ingest_app(services: Services) -> FastAPI:
    """The counts' door alone, for the tunnel."""
    app = _application("Headroom counts")
    _add_health(app, services.store)
    app.include_router(ingest_router(services.door))
    app.include_router(care_router(services.door, services.care))
    return app


def create_enrolment_app(services: Services) -> FastAPI:
    """The blank sensors' door alone."""
    app = _application("Headroom enrolment")
    app.include_router(enrolment_router(services.enrolment, services.settings.limits))
    return app


def _application(title: str, **options: Any) -> FastAPI:
    # No interactive pages: they load scripts from elsewhere. The document itself is at /openapi.json.
    app = FastAPI(title=title, version=version("headroom"), docs_url=None, redoc_url=None, **options)
    add_problem_handlers(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    """The document with what the framework cannot see: the counts' body, the sensors' signature, the problems."""
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        components = document.setdefault("components", {})
        components.setdefault("securitySchemes", {}).update({**SECURITY_SCHEMES, **API_SCHEMES})
        schemas = components.setdefault("schemas", {})
        for model in (Problem, *SCHEMAS):
            schema = model.model_json_schema(ref_template="#/components/schemas/{model}", by_alias=True)
            schemas.update(schema.pop("$defs", {}))
            schemas[model.__name__] = schema
        app.openapi_schema = document
    return app.openapi_schema


def _add_health(app: FastAPI, store: Store) -> None:
    @app.get("/healthz", tags=["service"], responses=problem_responses(503), summary="Whether the store answers")
    async def healthz() -> dict[str, str]:
        try:
            await asyncio.to_thread(store.ping)
        except StoreError:
            raise ProblemError(503, "store-unavailable", "the store does not answer", retry_after=5) from None
        return {"status": "ok"}
