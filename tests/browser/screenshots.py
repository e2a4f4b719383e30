"""Pictures of every page, both languages, phone and desktop: ``python -m tests.browser.screenshots FOLDER``.

Serves a simulated campus on a Wednesday morning, whatever day it is, and writes
FOLDER/portal-NAME-LANGUAGE-SIZE.png with a palette, as they lie in ``docs/images``. ``--axe`` prints what axe finds
meanwhile.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import uvicorn

from analytics.demo.campus import ORGANISATION, ROOM, build
from analytics.service_keys import ServiceKeys
from analytics.settings import ServiceSettings
from analytics.store.sqlite import SqliteStore
from analytics.web.app import Services, create_app
from analytics.web.portal.core import Portal
from tests.browser.palette import compact
from tests.browser.watching import DESKTOP, PHONE, Watched, accept, chromium, free_port, person, speak

NOW = datetime(2026, 11, 18, 9, 55, tzinfo=UTC)
"""A Wednesday, 10:55 in Amsterdam."""
PAGES = {
    "now": "now",
    "wall": "now?wall=1",
    "overview": "overview",
    "rooms": "rooms",
    "room": "rooms/sim-0001?day=2026-11-17",
    "bookings": "bookings",
    "too-large": "bookings?show=too_large",
    "compare": "compare",
    "data": "data",
    "sensors": "sensors",
    "sensor-add": "sensors#add",
    "settings": "settings",
    "settings-room": f"settings/rooms/{ROOM}",
    "hours": "settings/hours",
    "periods": "settings/periods",
    "rules": "settings/rules",
    "sources": "settings/sources",
    "source": "settings/sources/new?kind=webuntis",
    "retention": "settings/retention",
    "users": "users",
    "audit": "audit",
}
SIZES = {"desktop": DESKTOP, "phone": PHONE}


@contextmanager
def campus_at(now: datetime) -> Iterator[str]:
    """A service in this process whose portal lives at ``now``; the one-time link."""
    keys = ServiceKeys.create()
    with tempfile.TemporaryDirectory() as folder, SqliteStore.open(Path(folder) / "headroom.db", keys.store) as store:
        build(store, now, rooms=24, weeks=8)
        settings = ServiceSettings(data=Path(folder), port=free_port(), organisation=ORGANISATION)
        portal = Portal.build(store, keys.store, clock=lambda: now)
        services = replace(Services.build(settings, store, keys), portal=portal)
        app = create_app(settings, store, services)
        server = uvicorn.Server(uvicorn.Config(app, port=settings.port, log_level="warning"))
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        try:
            yield f"http://127.0.0.1:{settings.port}/invitation/{portal.people.first_link(ORGANISATION).secret}"
        finally:
            server.should_exit = True
            thread.join()
            services.close()


def take(watched: Watched, folder: Path, language: str, *, axe: bool, full: bool, only: set[str]) -> None:
    """All pages in one language."""
    page = watched.page()
    speak(page, watched.base, language)
    addresses = {name: f"/o/{ORGANISATION}/{path}" for name, path in PAGES.items()} | {"account": "/account"}
    for name, address in addresses.items():
        if only and name not in only:
            continue
        for size, viewport in SIZES.items():
            page.set_viewport_size(viewport)  # type: ignore[arg-type]
            page.goto(watched.base + address)
            if page.locator("script[src*='charts.js']").count():
                page.wait_for_selector("body[data-ready]")
            path = folder / f"portal-{name}-{language}-{size}.png"
            page.screenshot(path=str(path), full_page=full)
            compact(path)
            if axe:
                report(watched, address, viewport)
    page.close()


def report(watched: Watched, address: str, viewport: dict[str, int]) -> None:
    from tests.browser.test_axe import violations

    for finding in violations(watched, address, viewport):
        print(json.dumps({"page": address, "width": viewport["width"], "finding": finding}), flush=True)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--language", action="append", choices=["nl", "en"])
    parser.add_argument("--axe", action="store_true")
    parser.add_argument("--full", action="store_true", help="whole pages, not the first screen")
    parser.add_argument("--only", action="append", default=[])
    given = parser.parse_args(argv)
    given.folder.mkdir(parents=True, exist_ok=True)
    with (
        campus_at(NOW) as link,
        chromium() as browser,
        person(browser, link.partition("/invitation")[0]) as watched,
    ):
        watched.context.set_default_timeout(90_000)
        accept(watched.page(), link, "anna@campus.example", "Anna de Vries")
        for language in given.language or ["nl", "en"]:
            take(watched, given.folder, language, axe=given.axe, full=given.full, only=set(given.only))
    return 0


if __name__ == "__main__":
    sys.exit(main())
