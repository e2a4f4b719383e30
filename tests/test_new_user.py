"""From nothing to a figure on a page: a new user's way, through the command line and the portal's own forms.

The service starts in an empty folder, the first account is made with the printed link, a room and a sensor are added
in the portal; the sensor is enrolled with the codes that the page shows, set up by ``headroom sensor init``, and looks
at a clip of a meeting. What somebody who is logged in then reads is held against what the sensor itself counted. It
takes a minute and a half: a page shows whole minutes.
"""

from __future__ import annotations

import html
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cv2", reason="the sensor part is not installed")
httpx = pytest.importorskip("httpx", reason="the service part is not installed")

from counter.agent.state import ask  # noqa: E402
from tests.bench._service import free_port  # noqa: E402

pytestmark = pytest.mark.timeout(240)

CLIP = Path(__file__).parent / "clips" / "meeting-room-rendered.mp4"
HEADROOM = [sys.executable, "-m", "headroom"]
PASSWORD = "a bicycle on the canal"
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def headroom(*arguments: object, code: int = 0) -> str:
    argv = [*HEADROOM, *map(str, arguments)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=90, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    return done.stdout


def until(condition: Callable[[], Any], what: str, seconds: float = 90.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)
    return found


@contextmanager
def process(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A command that goes on, and the lines that it has said."""
    running = subprocess.Popen(
        [*HEADROOM, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said: list[str] = []
    assert running.stdout is not None
    reader = threading.Thread(target=lambda: said.extend(running.stdout or ()), daemon=True)
    reader.start()
    try:
        yield running, said
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(20)
        except subprocess.TimeoutExpired:
            running.kill()
        reader.join(5)


class Browser:
    """Somebody who reads pages and sends the forms that are on them, with the fields that are in them."""

    def __init__(self, base: str) -> None:
        self.client = httpx.Client(base_url=base, follow_redirects=True, headers={"accept": "text/html"}, timeout=30)
        self.origin = {"origin": base, "sec-fetch-site": "same-origin"}
        self.page = self.here = ""

    def go(self, path: str) -> str:
        answer = self.client.get(path)
        assert answer.status_code == 200, (path, answer.text)
        self.page, self.here = answer.text, path
        return self.page

    def send(self, action: str | None, **fields: str) -> str:
        """Send the form with this action (None: the one that goes to where it is), filled in."""
        forms = re.findall(r"<form method=\"post\"([^>]*)>(.*?)</form>", self.page, re.DOTALL)
        wanted = [body for head, body in forms if (f'action="{action}"' in head if action else "action" not in head)]
        assert len(wanted) == 1, f"{len(wanted)} forms with action {action}:\n{self.page}"
        names = set(re.findall(r"name=\"([\w-]+)\"", wanted[0]))
        assert set(fields) <= names, f"the form has {sorted(names)}"
        answer = self.client.post(action or self.here, data=fields, headers=self.origin)
        assert answer.status_code == 200, (action, answer.status_code, answer.text)
        self.page = answer.text
        return self.page

    def text(self) -> str:
        """The page as it is read."""
        plain = re.sub(r"<(script|style).*?</\1>", " ", self.page, flags=re.DOTALL)
        return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", plain)).split())

    def of(self, identity: str) -> str:
        found = re.search(rf'id="{identity}"[^>]*>([^<]+)<', self.page)
        assert found is not None, f"nothing is called {identity}:\n{self.page}"
        return html.unescape(found[1]).strip()


def test_a_new_user_gets_from_nothing_to_a_figure_on_a_page(tmp_path: Path) -> None:
    port = free_port()
    base, state = f"http://127.0.0.1:{port}", tmp_path / "state"
    with process("serve", "--data", tmp_path / "service", "--port", port) as (_, said):
        link = until(
            lambda: next((m[0] for line in said if (m := re.search(r"http\S+/invitation/[\w-]+", line))), None),
            "the link",
        )
        browser = Browser(base)
        until(lambda: _answers(base), "the service answers")

        # The first account, a room in a building that is open now, and a sensor for it.
        browser.go(link)
        browser.send(None, email="new@campus.example", name="New User", password=PASSWORD)
        browser.go("/account")
        browser.send("/account/language", language="en")
        assert "There are no rooms yet" in browser.go("/o/default/now")
        browser.go("/o/default/settings")
        browser.send("/o/default/settings/rooms", building="Main", number="1.01", capacity="12")
        browser.go("/o/default/settings/hours")
        building = re.search(r'action="/o/default/settings/hours/(?!all/)([^"/]+)"', browser.page)
        assert building is not None
        always = {f"day{number}": "00:00-24:00" for number in range(7)}
        browser.send(f"/o/default/settings/hours/{building[1]}", **always)
        browser.go("/o/default/sensors")
        room = re.search(r'<option value="([^"]+)">Main 1.01', browser.page)
        assert room is not None
        browser.send("/o/default/sensors", sensor_id="hall-1", room=room[1], kind="room", with_code="1")
        code, verification = browser.of("code"), browser.of("verification")
        assert f"headroom sensor enrol {code} --service {base}" in browser.text()

        # The sensor, as docs/sensor.md says it; the portal opens at 7 and a test at any time.
        headroom("sensor", "enrol", code, "--service", base, "--verification", verification, "--state", state)
        scene = state / "scene.toml"
        scene.write_text('mode = "room"\n')
        headroom("sensor", "init", "--camera", CLIP, "--zone", "UTC", "--scene", "scene.toml", "--state", state)
        settings = (state / "sensor.toml").read_text()
        for day in DAYS:
            settings = re.sub(rf"^{day} = .*$", f'{day} = ["00:00-24:00"]', settings, flags=re.MULTILINE)
        (state / "sensor.toml").write_text(settings)
        assert "This sensor can count." in headroom("sensor", "check", "--state", state)
        counted: set[int] = set()
        with process("sensor", "run", "--state", state) as (_, words):

            def delivered() -> bool:
                for camera in (ask(state) or {"cameras": []})["cameras"]:
                    if (last := camera["last_record"]) is not None and last["present"] is not None:
                        counted.add(last["present"])
                    return bool(camera["uplink"]["totals"]["delivered"] >= 1)
                return False

            until(delivered, f"a minute is delivered: {words}")
            status = json.loads(headroom("sensor", "status", "--state", state, "--json"))
            assert status["cameras"][0]["health"] == ["ok"]

            def seen() -> str | None:
                delivered()
                browser.go("/o/default/now")
                found = re.search(
                    r'id="room-[^"]+".*?<span class="room-people">.*?<b>(\d+)</b>', browser.page, re.DOTALL
                )
                return found[1] if found else None

            figure = until(seen, "a figure on the page Now")
        assert int(figure) >= 1
        assert int(figure) in counted, counted
        assert f"{figure} of 12 seats" in browser.text()
        browser.go("/o/default/sensors")
        assert "All 1 sensors are well." in browser.text()
        browser.go(f"/o/default/rooms/{room[1]}")
        assert "1.01" in browser.text()

        # Nobody else sees it.
        stranger = httpx.get(f"{base}/o/default/now", headers={"accept": "text/html"})
        assert stranger.status_code in (302, 303)
        assert "/login" in stranger.headers["location"]


def _answers(base: str) -> bool:
    try:
        return bool(httpx.get(f"{base}/healthz").json()["status"] == "ok")
    except (httpx.HTTPError, ValueError):
        return False
