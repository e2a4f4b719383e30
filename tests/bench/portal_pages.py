"""Server time of the portal's pages with figures.

``python -m tests.bench.portal_pages [--long]``: a simulated campus behind the real portal, asked through the real
application in one process; no browser, no network. Short: 20 rooms, 5 weeks. ``--long``: 200 rooms and a year of
counts, bookings and roll-ups, which takes a quarter of an hour to make; ``--store FILE`` keeps it for the next run.

For each page: ``cold`` is the first request of a process, nothing in its memory; ``warm`` the median of later ones,
``_cpu`` what they cost of a processor, which other work on the machine does not change.
The goal is 0.3 s. What takes longer cold says so on the page and is shown when it is there (series of a long period).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from fastapi import FastAPI
from fastapi.testclient import TestClient

from analytics.accounts.rights import Membership, Role
from analytics.rollups import refresh
from analytics.simulate.campus import Campus
from analytics.simulate.store import populate
from analytics.store.sqlite import SqliteStore
from analytics.web.portal.core import Portal
from analytics.web.portal.mount import mount_portal
from analytics.web.portal.pages.figures_cache import FreshCache
from analytics.web.portal.security import cookie_name

ORG = "simulated-bench"
MASTER = bytes(range(32))
GOAL = 0.3


def emit(name: str, value: float) -> None:
    """One JSON line; the peer is the goal, a ratio above 1 is faster than it."""
    line = {"name": name, "value": round(value, 4), "unit": "s", "peer": "goal", "peer_value": GOAL}
    print(json.dumps({**line, "ratio": round(GOAL / value, 2)}), flush=True)


def fill(store: SqliteStore, campus: Campus) -> None:
    """A campus with its roll-ups, unless it is there."""
    if any(org.id == ORG for org in store.organisations()):
        return
    populate(store, campus, ORG)
    while refresh(store, ORG).behind:
        pass


def login(portal: Portal, app: FastAPI) -> TestClient:
    """The controller of the campus."""
    password = "a bicycle on the canal"
    if portal.people.nobody_yet():
        portal.people.accept(portal.people.first_link(ORG).secret, password, email="chief@bench.example", name="Chief")
    chief = portal.people.members(ORG)[0]
    email = f"reader{time.time_ns()}@bench.example"
    handout = portal.people.invite(chief, email, Membership(ORG, Role.CONTROLLER))
    portal.people.accept(handout.secret, password, name="Reader")
    secret, _ = portal.people.login(email, password)
    client = TestClient(app, headers={"accept": "text/html"})
    client.cookies.set(cookie_name(False), secret)
    return client


def pages(campus: Campus, now: datetime) -> dict[str, str]:
    """Name to path; ``year`` is all there is."""
    room = "rooms/sim-0003"
    everything = f"from={campus.first}&to={(now - timedelta(days=1)).date()}"
    return {
        "now": "now", "now_fragment": "now/board", "overview": "overview", "overview_year": f"overview?{everything}",
        "rooms": "rooms", "rooms_year": f"rooms?{everything}", "room": room, "room_year": f"{room}?{everything}",
        "bookings_no_shows": "bookings", "bookings_no_shows_year": f"bookings?{everything}",
        "bookings_too_large": "bookings?show=too_large",
        "bookings_too_large_year": f"bookings?show=too_large&{everything}",
        "compare": "compare", "compare_plans": f"compare?a_known={campus.first}",
    }  # fmt: skip


def measure(client: TestClient, app: FastAPI, name: str, path: str, warm: int) -> None:
    """Print the cold and warm time of one page."""
    quiet()
    app.state.figure_cache = FreshCache()
    times: list[float] = []
    spent: list[float] = []
    for turn in range(warm + 1):
        begin, worked = time.perf_counter(), time.process_time()
        answer = client.get(f"/o/{ORG}/{path}")
        times.append(time.perf_counter() - begin)
        spent.append(time.process_time() - worked)
        if answer.status_code != 200:
            raise RuntimeError(f"{path} answered {answer.status_code}")
        if turn == 0:
            settle(client, path)
            quiet()
    emit(f"portal_pages.{name}.cold", times[0])
    emit(f"portal_pages.{name}.cold_cpu", spent[0])
    emit(f"portal_pages.{name}.warm", statistics.median(times[1:]))
    emit(f"portal_pages.{name}.warm_cpu", statistics.median(spent[1:]))


def quiet() -> None:
    """Wait until nothing is made ready in the background any more: the next page would share the processor with it."""
    for thread in threading.enumerate():
        if thread.name == "portal-figures":
            thread.join()


def settle(client: TestClient, path: str) -> None:
    """Wait until what a page makes ready behind it is there."""
    for _ in range(600):
        if 'id="again"' not in client.get(f"/o/{ORG}/{path}").text:
            return
        time.sleep(0.1)


def main(argv: list[str] | None = None) -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--store", type=Path, help="keep the simulated campus in this file")
    chosen = parser.parse_args(argv)
    campus = Campus(rooms=200, weeks=52) if chosen.long else Campus(rooms=20, weeks=5)
    # A Wednesday at 10:20 near the end.
    day = campus.first + timedelta(weeks=campus.weeks - 1, days=2)
    now = datetime(day.year, day.month, day.day, 8, 20, tzinfo=UTC)
    with (
        tempfile.TemporaryDirectory() as folder,
        SqliteStore.open(chosen.store or Path(folder) / "bench.db", MASTER) as store,
    ):
        fill(store, campus)
        app = FastAPI()
        portal = Portal.build(store, MASTER, clock=lambda: now)
        mount_portal(app, portal)
        client = login(portal, app)
        client.get(f"/o/{ORG}/overview")  # templates are compiled once a process
        client.get(f"/o/{ORG}/rooms/sim-0003")
        for name, path in pages(campus, now).items():
            measure(client, app, name, path, 9 if chosen.long else 5)
    return 0


if __name__ == "__main__":
    sys.exit(main())
