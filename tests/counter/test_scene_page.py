"""The page of ``headroom scene``: nothing from outside, nothing without the token; mouse, touch and keys draw."""

from __future__ import annotations

import http.client
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from counter.scene import Scene, load_scene, parse_scene
from counter.scene_page.server import ScenePage

CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture
def page(tmp_path: Path) -> Iterator[ScenePage]:
    still = np.zeros((360, 640, 3), np.uint8)
    still[:, :, 1] = np.linspace(40, 160, 640, dtype=np.uint8)
    served = ScenePage(still, tmp_path / "scene.toml", Scene(), source="hall.mp4")
    yield served
    served.close()


def ask(
    page: ScenePage, method: str, path: str, body: object = None, **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", page.port, timeout=10)
    own = {"Origin": f"http://127.0.0.1:{page.port}"} if method == "POST" else {}
    raw = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    connection.request(method, path, raw, own | headers)
    answer = connection.getresponse()
    result = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return result


def test_it_listens_on_this_machine_alone(page: ScenePage) -> None:
    assert page._server.server_address[0] == "127.0.0.1"


def test_nothing_is_answered_without_the_token(page: ScenePage) -> None:
    for path in ("/", "/page.js", "/still.jpg", "/state.json", "/wrong/", f"/{page.token[:-1]}/"):
        status, _, body = ask(page, "GET", path)
        assert status == 404, path
        assert body == b"Not Found"


def test_every_answer_forbids_what_is_foreign_and_keeping_it(page: ScenePage) -> None:
    for name in ("", "page.js", "page.css", "icon.svg", "still.jpg", "state.json"):
        status, headers, body = ask(page, "GET", f"/{page.token}/{name}")
        assert status == 200, name
        assert body
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store", "no browser may keep the picture"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"


def test_the_page_names_nothing_outside() -> None:
    folder = Path(__file__).parents[2] / "counter" / "scene_page"
    for file in ("page.html", "page.js", "page.css"):
        text = (folder / file).read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http:" not in text, file
        assert "https:" not in text, file
        assert "innerHTML" not in text, file


@pytest.mark.parametrize("host", ["localhost", "evil.example", "evil.example:80", "127.0.0.1"])
def test_other_host_names_are_refused(page: ScenePage, host: str) -> None:
    """DNS rebinding: a foreign name that resolves to 127.0.0.1."""
    assert ask(page, "GET", f"/{page.token}/still.jpg", Host=host)[0] == 404


@pytest.mark.parametrize("origin", ["", "null", "http://evil.example", "http://localhost:1"])
def test_other_pages_cannot_write(page: ScenePage, origin: str) -> None:
    status, _, _ = ask(page, "POST", f"/{page.token}/save", {"mode": "door"}, Origin=origin)
    assert status == 403
    assert not page.target.exists()


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"not json", 400), (b"[1]", 400), (b"[" * 100_000, 400), (b"{}" + b" " * 300_000, 413)],
)
def test_broken_bodies(page: ScenePage, body: bytes, status: int) -> None:
    assert ask(page, "POST", f"/{page.token}/check", body)[0] == status


def test_check_and_save(page: ScenePage) -> None:
    bad = {"lines": [{"name": "door", "start": [0, 0], "end": [2, 0]}]}
    answer = json.loads(ask(page, "POST", f"/{page.token}/save", bad)[2])
    assert answer["faults"][0]["field"] == "lines[0].end[0]"
    assert not page.target.exists()
    good = {"lines": [{"name": "door", "start": [0.1, 0.5], "end": [0.9, 0.5]}], "mode": "room"}
    assert json.loads(ask(page, "POST", f"/{page.token}/check", good)[2])["faults"] == []
    assert json.loads(ask(page, "POST", f"/{page.token}/save", good)[2])["saved"] == str(page.target)
    assert load_scene(page.target) == parse_scene(good)


def test_closing_forgets_the_picture(page: ScenePage) -> None:
    assert ask(page, "POST", f"/{page.token}/done", {})[0] == 200
    assert page.done.wait(5)  # set behind the answer, which must get out before the program ends
    page.close()
    assert page.still == b""


# ---- in a browser ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip("/usr/bin/chromium is not installed (Debian package chromium)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(chromium: Any, page: ScenePage) -> Iterator[Any]:
    context = chromium.new_context(viewport={"width": 1100, "height": 760}, has_touch=True)
    opened = context.new_page()
    problems: list[str] = []
    hosts: set[str] = set()
    opened.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
    opened.on("pageerror", lambda e: problems.append(str(e)))
    opened.on("request", lambda r: hosts.add(r.url.split("/")[2]))
    opened.goto(page.url)
    opened.wait_for_selector("body[data-ready]")
    yield opened
    assert problems == []
    assert hosts == {f"127.0.0.1:{page.port}"}, "nothing is fetched from elsewhere"
    context.close()


def at(tab: Any, x: float, y: float) -> tuple[float, float]:
    box = tab.locator("#still").bounding_box()
    return box["x"] + x * box["width"], box["y"] + y * box["height"]


def save(tab: Any) -> None:
    tab.wait_for_selector("body[data-checked] #save:not([disabled])")
    tab.click("#save")
    tab.wait_for_selector("body[data-saved]")


@pytest.mark.browser
def test_draw_a_line_and_a_zone_with_the_mouse(tab: Any, page: ScenePage) -> None:
    tab.mouse.move(*at(tab, 0.2, 0.6))
    tab.mouse.down()
    tab.mouse.move(*at(tab, 0.5, 0.6), steps=4)
    tab.mouse.move(*at(tab, 0.8, 0.6), steps=4)
    tab.mouse.up()
    tab.click("[data-tool=zone]")
    for corner in ((0.1, 0.1), (0.5, 0.12), (0.45, 0.5), (0.12, 0.45), (0.1, 0.1)):
        tab.mouse.click(*at(tab, *corner))
    tab.fill("[aria-label='Name of zone']", "table")
    save(tab)
    scene = load_scene(page.target)
    assert scene.lines[0].start == pytest.approx((0.2, 0.6), abs=0.005)
    assert scene.lines[0].end == pytest.approx((0.8, 0.6), abs=0.005)
    assert scene.zones[0].name == "table"
    assert len(scene.zones[0].points) == 4
    tab.click("text=Flip direction")
    tab.wait_for_selector("#verdict:has-text('not saved')")
    assert tomllib.loads(tab.inner_text("#toml") or tab.text_content("#toml"))["lines"][0]["start"][0] > 0.7


@pytest.mark.browser
def test_the_shaded_side_is_where_entered_people_are(tab: Any, page: ScenePage) -> None:
    """A line from left to right: its right hand side, below it on the screen, is the entered one."""
    tab.mouse.move(*at(tab, 0.2, 0.5))
    tab.mouse.down()
    tab.mouse.move(*at(tab, 0.8, 0.5), steps=3)
    tab.mouse.up()
    points = tab.get_attribute(".inside", "points").split()
    ys = [float(p.split(",")[1]) for p in points]
    assert max(ys[2:]) > max(ys[:2]) + 20, "the shade lies below the line"


@pytest.mark.browser
def test_draw_with_keys_alone(tab: Any, page: ScenePage) -> None:
    tab.keyboard.press("l")
    for _ in range(4):
        tab.keyboard.press("Shift+ArrowLeft")
    tab.keyboard.press("Enter")
    for _ in range(8):
        tab.keyboard.press("Shift+ArrowRight")
    tab.keyboard.press("Enter")
    tab.keyboard.press("f")
    save(tab)
    line = load_scene(page.target).lines[0]
    assert (line.start, line.end) == ((0.7, 0.5), (0.3, 0.5))
    tab.keyboard.press("Delete")
    tab.keyboard.press("Control+z")
    tab.wait_for_selector(".item.line")


@pytest.mark.browser
def test_draw_by_touch(tab: Any, page: ScenePage) -> None:
    tab.tap("[data-tool=zone]")
    for corner in ((0.2, 0.2), (0.7, 0.2), (0.7, 0.8), (0.2, 0.2)):
        tab.touchscreen.tap(*at(tab, *corner))
    save(tab)
    assert len(load_scene(page.target).zones[0].points) == 3


@pytest.mark.browser
def test_faults_are_shown_where_they_are_and_cannot_be_saved(tab: Any, page: ScenePage) -> None:
    tab.click("[data-tool=zone]")
    for corner in ((0.1, 0.1), (0.6, 0.6), (0.6, 0.1), (0.1, 0.6), (0.1, 0.1)):
        tab.mouse.click(*at(tab, *corner))
    tab.wait_for_selector(".item.bad .why")
    assert "cross" in tab.inner_text(".item.bad .why")
    assert tab.is_disabled("#save")
    tab.click("#undo")
    tab.wait_for_selector(".item", state="detached")


@pytest.mark.browser
def test_an_existing_scene_is_where_drawing_begins(chromium: Any, tmp_path: Path) -> None:
    start = parse_scene(
        {"lines": [{"name": "door", "start": [0.1, 0.5], "end": [0.9, 0.5], "dwell": 0.4}], "mode": "room"}
    )
    served = ScenePage(np.zeros((90, 160, 3), np.uint8), tmp_path / "s.toml", start, source="x")
    opened = chromium.new_page()
    opened.goto(served.url)
    opened.wait_for_selector("body[data-ready]")
    save(opened)
    assert load_scene(served.target) == start, "what the page does not show is kept"
    opened.close()
    served.close()
