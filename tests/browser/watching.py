"""A real browser that is watched, and a real service beside it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue
from urllib.parse import urlsplit

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="the package playwright is not installed")
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Request, Route  # noqa: E402

CHROMIUM = os.environ.get("HEADROOM_CHROMIUM") or shutil.which("chromium") or "/usr/bin/chromium"
PASSWORD = "a bicycle on the canal"
LINK = re.compile(r"https?://127\.0\.0\.1:\d+/invitation/[\w-]+")
DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}


@contextmanager
def chromium() -> Iterator[Browser]:
    """Headless Chromium; the test skips with the reason where there is none."""
    if not Path(CHROMIUM).exists():
        pytest.skip(f"there is no Chromium at {CHROMIUM}; HEADROOM_CHROMIUM names another")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True)
        yield browser
        browser.close()


@dataclass
class Watched:
    """A browser of one person. Whatever goes wrong in it is in ``problems``.

    Attributes:
        problems: console errors (refusals by the content security policy among them), exceptions of scripts, answers
            of 500 and more, requests to anywhere but this machine.
    """

    context: BrowserContext
    base: str
    problems: list[str] = field(default_factory=list)

    def page(self) -> Page:
        """A new tab."""
        page = self.context.new_page()
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"{page.url}: {error}"))
        page.on("response", lambda r: self.problems.append(f"{r.url}: {r.status}") if r.status >= 500 else None)
        page.route("**/*", self._only_here)
        return page

    def _console(self, message: ConsoleMessage) -> None:
        # The browser itself writes an error for any status from 400 on; which of those are right, tests say.
        if message.type in ("error", "warning") and "the server responded with a status of 4" not in message.text:
            self.problems.append(f"{message.location.get('url')}: {message.text}")

    def _only_here(self, route: Route, request: Request) -> None:
        if urlsplit(request.url).hostname == "127.0.0.1" or request.url.startswith("data:"):
            route.continue_()
        else:
            self.problems.append(f"asked for {request.url}")
            route.abort()


@contextmanager
def person(browser: Browser, base: str, *, viewport: dict[str, int] | None = None) -> Iterator[Watched]:
    """Somebody with a browser of their own. Problems that nobody looked at fail the test at the end."""
    context = browser.new_context(viewport=viewport or DESKTOP, locale="en-GB", accept_downloads=True)  # type: ignore[arg-type]
    context.set_default_timeout(15_000)
    watched = Watched(context, base)
    try:
        yield watched
    finally:
        context.close()
    assert watched.problems == []


@dataclass
class Running:
    """A service of the product as a process of its own."""

    url: str
    link: str
    process: subprocess.Popen[str]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(*command: str, seconds: float = 60) -> Iterator[Running]:
    """Start ``headroom ...``, wait for the one-time link that it prints, and end it as Ctrl-C would."""
    process = subprocess.Popen(
        [sys.executable, "-m", "headroom", *command],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "COLUMNS": "400"},
    )  # fmt: skip
    lines: Queue[str] = Queue()
    assert process.stdout is not None
    stream = process.stdout
    threading.Thread(target=lambda: [lines.put(line) for line in stream], daemon=True).start()
    said = ""
    try:
        while (found := LINK.search(said)) is None:
            try:
                said += lines.get(timeout=seconds)
            except Empty:
                raise AssertionError(f"no link within {seconds} s: {said}") from None
        yield Running(found.group().partition("/invitation")[0], found.group(), process)
    finally:
        process.send_signal(signal.SIGINT)
        try:
            code = process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert code == 0, f"ended with {code}"


def accept(page: Page, link: str, email: str, name: str, *, code: str = "") -> None:
    """Open a one-time link and create the account, as its form asks."""
    page.goto(link)
    if page.get_by_label("Mail address").count():
        page.get_by_label("Mail address").fill(email)
    page.get_by_label("Your name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    if code:
        page.get_by_label("Verification code").fill(code)
    page.get_by_role("button", name="Go on").click()


def speak(page: Page, base: str, language: str) -> None:
    """Choose the language of the account."""
    page.goto(f"{base}/account")
    page.get_by_role("button", name={"en": "English", "nl": "Nederlands"}[language]).click()
    page.wait_for_url("**/account")
