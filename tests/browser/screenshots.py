"""Pictures of every page, both languages, phone and desktop: ``python -m tests.browser.screenshots FOLDER``.

Runs a demo of its own with the footage counted, and writes FOLDER/NAME-LANGUAGE-SIZE.png. ``--keep`` leaves out all but
the set that the documentation shows. ``--axe`` prints what axe-core finds meanwhile.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from analytics.demo.campus import ORGANISATION, ROOM
from tests.browser.watching import DESKTOP, PHONE, Watched, accept, chromium, person, running, speak

PAGES = {
    "now": "now",
    "wall": "now?wall=1",
    "overview": "overview",
    "rooms": "rooms",
    "room": "rooms/sim-0001",
    "room-footage": f"rooms/{ROOM}",
    "bookings": "bookings",
    "too-large": "bookings?show=too_large",
    "compare": "compare",
    "data": "data",
    "sensors": "sensors",
    "settings": "settings",
    "settings-room": f"settings/rooms/{ROOM}",
    "hours": "settings/hours",
    "periods": "settings/periods",
    "sources": "settings/sources",
    "source": "settings/sources/new?kind=webuntis",
    "retention": "settings/retention",
    "users": "users",
    "audit": "audit",
}
KEPT = {("now", "nl"), ("overview", "en"), ("room", "nl"), ("bookings", "en")}
SIZES = {"desktop": DESKTOP, "phone": PHONE}


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
            page.screenshot(path=str(folder / f"{name}-{language}-{size}.png"), full_page=full)
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
    parser.add_argument("--no-footage", action="store_true")
    parser.add_argument("--only", action="append", default=[])
    given = parser.parse_args(argv)
    given.folder.mkdir(parents=True, exist_ok=True)
    more = ["--no-footage"] if given.no_footage else []
    with (
        tempfile.TemporaryDirectory() as demo,
        running("demo", "--folder", demo, "--no-browser", "--rooms", "24", *more, seconds=180) as service,
        chromium() as browser,
        person(browser, service.url) as watched,
    ):
        watched.context.set_default_timeout(90_000)
        accept(watched.page(), service.link, "anna@campus.example", "Anna de Vries")
        for language in given.language or ["nl", "en"]:
            take(watched, given.folder, language, axe=given.axe, full=given.full, only=set(given.only))
    return 0


if __name__ == "__main__":
    sys.exit(main())
