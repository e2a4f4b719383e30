"""For those who run the service: ``/readyz`` and Prometheus' ``/metrics``. No person and no count is in either."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric

from analytics.accounts.model import Token
from analytics.accounts.rights import Right
from analytics.jobs import Jobs
from analytics.sources import Sources
from analytics.store.errors import StoreError
from analytics.web.api.access import caller
from analytics.web.portal.core import Portal
from analytics.web.portal.security import Message, Receive, Send
from analytics.web.portal.visit import portal_of
from analytics.web.problems import ProblemError, problem_responses
from analytics.web.proxy import is_loopback

METRICS_AGE_S = 15.0
"""What a scrape reads from the store is kept this long: several scrapers cost no more than one."""
JOBS_STUCK_S = 3600.0
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0)
_WAITING_SHOWN = 10_000


class Meters:
    """Counters of this process's requests, by area and not by address: ids are in those."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "headroom_http_requests", "Requests answered.", ["area", "status"], registry=self.registry
        )
        self.seconds = Histogram(
            "headroom_http_seconds", "Time to the answer's head.", ["area"], registry=self.registry, buckets=_BUCKETS
        )


class Measured:
    """ASGI middleware: counts and times answers."""

    def __init__(self, app: Any, *, meters: Meters) -> None:
        self._app = app
        self._meters = meters

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        area, begin = _area(scope["path"]), time.perf_counter()

        async def timed(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._meters.requests.labels(area, str(message["status"])).inc()
                self._meters.seconds.labels(area).observe(time.perf_counter() - begin)
            await send(message)

        await self._app(scope, receive, timed)


def _area(path: str) -> str:
    for start, area in (("/v1/counts", "ingest"), ("/v1/enrolment", "enrolment"), ("/v1/", "api")):
        if path.startswith(start):
            return area
    return "service" if path in ("/healthz", "/readyz", "/metrics") else "portal"


def add_service_routes(app: FastAPI, jobs: Jobs) -> None:
    """Add both routes, and the counting of requests."""
    meters = Meters()
    families = Families(jobs)
    app.add_middleware(Measured, meters=meters)

    @app.get("/readyz", tags=["service"], responses=problem_responses(503), summary="Whether work can be sent here")
    async def readyz(request: Request) -> dict[str, str]:
        """The store answers, and scheduled work, where this process does it, goes on."""
        try:
            await asyncio.to_thread(portal_of(request).store.ping)
        except StoreError:
            raise ProblemError(503, "store-unavailable", "the store does not answer", retry_after=5) from None
        if jobs.started and (not jobs.alive or time.monotonic() - jobs.pulse > JOBS_STUCK_S):
            raise ProblemError(503, "jobs-stuck", "scheduled work does not go on; restart the service")
        return {"status": "ready"}

    @app.get(
        "/metrics",
        tags=["service"],
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}, **problem_responses(401, 403, 429, 503)},
        openapi_extra={"security": [{"token": []}, {}]},
        summary="Prometheus metrics",
    )
    def metrics(request: Request) -> Response:
        """For programs of this machine, and for tokens with the right `see-sensors`, which see their organisation."""
        if _from_this_machine(request):
            text = generate_latest(meters.registry) + _exposed(families.all(portal_of(request)))
        else:
            who = caller(request)
            org_id = who.organisations[0] if isinstance(who.who, Token) else ""
            if not who.allows(Right.SEE_SENSORS, org_id) or who.buildings(org_id):
                raise ProblemError(
                    403, "forbidden", "this needs a token with the right 'see-sensors', for all buildings"
                )
            text = _exposed(families.all(portal_of(request)), org_id)
        return Response(text, media_type=CONTENT_TYPE_LATEST, headers={"Cache-Control": "no-store"})


def _from_this_machine(request: Request) -> bool:
    """Not merely from a loopback address: a proxy's callers have that too, and so has a browser that was misled."""
    client, host = request.client, request.url.hostname or ""
    forwarded = any(name in request.headers for name in ("x-forwarded-for", "forwarded", "x-real-ip", "via"))
    return client is not None and is_loopback(client.host) and is_loopback(host) and not forwarded


class Families:
    """Figures of the store for Prometheus, with a short memory."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._lock = threading.Lock()
        self._at = float("-inf")
        self._found: list[Metric] = []

    def all(self, portal: Portal) -> list[Metric]:
        """Every family. Raises ProblemError 503 when the store does not answer."""
        with self._lock:
            if time.monotonic() - self._at > METRICS_AGE_S:
                try:
                    self._found = list(self._read(portal))
                except StoreError:
                    raise ProblemError(503, "store-unavailable", "the store does not answer", retry_after=5) from None
                self._at = time.monotonic()
            return self._found

    def _read(self, portal: Portal) -> Iterator[Metric]:
        about = GaugeMetricFamily("headroom_info", "The version that runs.", labels=["version"])
        about.add_metric([version("headroom")], 1)
        yield about
        yield from self._of_jobs()
        sensors = GaugeMetricFamily("headroom_sensors", "Sensors.", labels=["organisation", "state"])
        contact = GaugeMetricFamily(
            "headroom_sensor_last_contact_timestamp_seconds",
            "End of the newest count.",
            labels=["organisation", "sensor"],
        )
        waiting = GaugeMetricFamily(
            "headroom_rollups_waiting", "Changes that are not in the figures yet.", labels=["organisation"]
        )
        pulled = GaugeMetricFamily(
            "headroom_timetable_last_success_timestamp_seconds", "Last good pull.", labels=["organisation", "source"]
        )
        failures = GaugeMetricFamily(
            "headroom_timetable_failures", "Failed pulls in a row.", labels=["organisation", "source"]
        )
        for org_id in (organisation.id for organisation in portal.store.organisations()):
            known = portal.store.sensors(org_id)
            states = {"new": 0, "enrolled": 0, "revoked": 0}
            for sensor in known:
                states["revoked" if sensor.revoked_at else "enrolled" if sensor.enrolled_at else "new"] += 1
            for state, count in states.items():
                sensors.add_metric([org_id, state], count)
            working = [sensor.id for sensor in known if sensor.enrolled_at and not sensor.revoked_at]
            for sensor_id, newest in portal.store.latest_counts(org_id, working).items():
                if newest.size:
                    end = int(newest["start"][0]) + int(newest["seconds"][0])
                    contact.add_metric([org_id, sensor_id], end)
            waiting.add_metric([org_id], len(portal.store.stale_days(org_id, _WAITING_SHOWN)))
            for source in Sources(portal.keep).of(org_id):
                last = Sources(portal.keep).last_pull(org_id, source.id)
                if last is not None:
                    failures.add_metric([org_id, source.id], last.failures)
                    if last.succeeded_at is not None:
                        pulled.add_metric([org_id, source.id], last.succeeded_at.timestamp())
        yield from (sensors, contact, waiting, pulled, failures)

    def _of_jobs(self) -> Iterator[Metric]:
        success = GaugeMetricFamily(
            "headroom_job_last_success_timestamp_seconds", "Scheduled work of this process.", labels=["job"]
        )
        failed = CounterMetricFamily("headroom_job_failures", "Rounds that failed.", labels=["job"])
        for name, state in self._jobs.states.items():
            failed.add_metric([name], state.failures)
            if state.last_success is not None:
                success.add_metric([name], state.last_success.timestamp())
        yield from (success, failed)


class _Some:
    """A registry of what was collected already, narrowed to one organisation where one is named."""

    def __init__(self, families: list[Metric], org_id: str) -> None:
        self._families = families
        self._org_id = org_id

    def collect(self) -> Iterator[Metric]:
        for family in self._families:
            if not self._org_id:
                yield family
                continue
            narrowed = Metric(family.name, family.documentation, family.type)
            narrowed.samples = [s for s in family.samples if s.labels.get("organisation") == self._org_id]
            if narrowed.samples:
                yield narrowed


def _exposed(families: list[Metric], org_id: str = "") -> bytes:
    return generate_latest(_Some(families, org_id))
