"""axe-core on every page of a simulated organisation: WCAG 2.2 A and AA and best practices, without exception."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

axe_module = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is missing")

from analytics.demo.campus import ORGANISATION, ROOM  # noqa: E402
from analytics.simulate import Campus, simulate_room  # noqa: E402
from analytics.web.portal.mount import all_pages  # noqa: E402
from tests.browser.watching import DESKTOP, PHONE, Watched, accept, chromium, person, running, speak  # noqa: E402

pytestmark = pytest.mark.browser
# Pages that need something in their address; None: not a page for people.
ADDRESSES: dict[str, str | None] = {
    "/": None,
    "/login": "/login",
    "/invitation/{secret}": "/invitation/none-such",
    "/account": "/account",
    "/account/data.json": None,
    "/static/plotly.min.js": None,
    "/o/{org_id}/now/board": None,
    "/o/{org_id}/data/export": None,
    "/o/{org_id}/data/dictionary.json": None,
    "/o/{org_id}/settings/sources/new": "/o/{org_id}/settings/sources/new?kind=rest",
    "/o/{org_id}/settings/sources/{source_id}": None,  # drawn by the same template as the new one
}
MORE = (
    "/o/{org_id}/now?wall=1",
    "/o/{org_id}/bookings?show=too_large",
    "/o/{org_id}/none-such",
    "/o/{org_id}/data?what=bookings",
)
ON_A_PHONE = ("now", "overview", "rooms/{room_id}", "bookings", "data", "settings", "settings/rules", "users", "audit")
# What plotly draws is a picture (role=img with a name and a table beside it): its inner shapes are nobody's text.
WITHOUT_PICTURES = {"exclude": [[".js-plotly-plot svg"]]}
ROOMS, WEEKS = 5, 4
QUIET = ("--no-footage", "--no-browser")
SENSOR = simulate_room(Campus(ROOMS, WEEKS), 0).sensors[0].sensor
OPTIONS = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]},
    "resultTypes": ["violations"],
}


def addresses() -> list[str]:
    """Every page with a GET route: a new one is tested, or this list says why not."""
    paths = [path for method, path, _ in all_pages().rules if method == "GET"]
    found = [ADDRESSES.get(path, path) for path in paths]
    return [filled(path) for path in (*found, *MORE) if path is not None]


def filled(path: str) -> str:
    path = path.replace("{org_id}", ORGANISATION).replace("{room_id}", ROOM).replace("{sensor_id}", SENSOR)
    assert "{" not in path, f"{path}: say in ADDRESSES how to get there"
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def chief(browser: object, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """The controller of a demo that is simulated alone."""
    folder = tmp_path_factory.mktemp("axe")
    command = (
        "demo",
        "--folder",
        str(folder),
        "--rooms",
        str(ROOMS),
        "--weeks",
        str(WEEKS),
        "--no-footage",
        "--no-browser",
    )
    with running(*command) as demo, person(browser, demo.url) as watched:  # type: ignore[arg-type]
        page = watched.page()
        accept(page, demo.link, "chief@campus.example", "Chief")
        page.wait_for_url("**/now")
        speak(page, demo.url, "en")
        yield watched


def violations(watched: Watched, path: str, size: dict[str, int]) -> list[str]:
    page = watched.page()
    page.set_viewport_size(size)  # type: ignore[arg-type]
    page.goto(watched.base + path)
    if page.locator("script[src*='charts.js'], script[src*='now.js']").count():
        page.wait_for_selector("body[data-ready]")
    # What is folded is checked too.
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    results = axe_module.Axe().run(page, context=WITHOUT_PICTURES, options=OPTIONS)
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    unmarked = (
        path.startswith(f"/o/{ORGANISATION}/")
        and not path.endswith("none-such")
        and not page.locator(".simulated").is_visible()
    )
    page.close()
    found = ["the page does not say that its data are simulated"] if unmarked else []
    found += [
        f"{one['id']} ({one['impact']}): {one['help']}: {[node['html'][:150] for node in one['nodes'][:3]]}"
        for one in results.response["violations"]
    ]
    return [*found, *([f"the page is {wide} px wider than the screen"] if wide > 0 else [])]


@pytest.mark.parametrize("path", addresses())
def test_on_a_desktop(chief: Watched, path: str) -> None:
    assert violations(chief, path, DESKTOP) == []


@pytest.mark.parametrize("path", [filled(f"/o/{{org_id}}/{path}") for path in ON_A_PHONE])
def test_on_a_phone(chief: Watched, path: str) -> None:
    assert violations(chief, path, PHONE) == []


def test_the_menu_on_a_phone_opens_by_touch_and_by_keyboard(chief: Watched) -> None:
    page = chief.page()
    page.set_viewport_size(PHONE)  # type: ignore[arg-type]
    page.goto(f"{chief.base}/o/{ORGANISATION}/now")
    menu = page.locator(".top nav")
    button, brand = page.locator(".menu-button").bounding_box(), page.locator(".brand").bounding_box()
    assert button is not None
    assert brand is not None
    assert abs(button["y"] - brand["y"]) < 20, "the menu stands beside the name"
    assert not menu.is_visible()
    page.mouse.click(button["x"] + button["width"] / 2, button["y"] + button["height"] / 2)
    assert menu.is_visible()
    page.locator("#menu-switch").focus()
    page.keyboard.press("Space")
    assert not menu.is_visible()
    page.keyboard.press("Space")
    for entry in ("Overview", "Audit", "Your account"):
        assert page.locator(".top").get_by_role("link", name=entry).is_visible(), "nothing is folded twice"
    menu.get_by_role("link").nth(1).click()
    page.wait_for_url("**/overview")


@pytest.mark.parametrize("language", ["en", "nl"])
def test_the_header_is_one_line(chief: Watched, language: str) -> None:
    """With a controller's entries, the most there are, and a name that is too long."""
    page = chief.page()
    speak(page, chief.base, language)
    for width in (1024, 1280, 1440):
        page.set_viewport_size({"width": width, "height": 800})
        page.goto(f"{chief.base}/o/{ORGANISATION}/users")
        page.evaluate("document.querySelector('.person .drop > span').textContent = 'Wilhelmina '.repeat(9)")
        parts = page.locator(".brand, .top nav > ul > li, .person")
        boxes = [box for one in parts.all() if (box := one.bounding_box()) is not None]
        assert len(boxes) == 9, "the name, six pages, what is managed, the person"
        middles = [box["y"] + box["height"] / 2 for box in boxes]
        assert max(middles) - min(middles) < 2, f"{language}, {width} px: {middles}"
        heights = [box["height"] for box in boxes]
        assert max(heights) < 45, f"{language}, {width} px: an entry is broken over lines: {heights}"
        ends = [box["x"] + box["width"] for box in boxes]
        assert all(end <= box["x"] for end, box in zip(ends, boxes[1:], strict=False)), "nothing covers its neighbour"
        assert ends[-1] <= width
    page.set_viewport_size({"width": 1023, "height": 800})
    assert page.locator(".menu-button").is_visible()
    assert not page.locator(".person").is_visible(), "below, everything stands under one button"
    speak(page, chief.base, "en")
    page.close()


@pytest.mark.parametrize(
    ("button", "inside", "lands"), [("Manage", "Sensors", "sensors"), ("Chief", "Your account", "account")]
)
def test_a_menu_of_the_header_works_by_keyboard_alone(chief: Watched, button: str, inside: str, lands: str) -> None:
    page = chief.page()
    page.goto(f"{chief.base}/o/{ORGANISATION}/now")
    opener, entry = page.get_by_role("button", name=button), page.locator(".top").get_by_role("link", name=inside)
    opener.focus()
    page.keyboard.press("Enter")
    assert entry.is_visible()
    results = axe_module.Axe().run(page, context={"include": [[".top"]]}, options=OPTIONS)
    assert [one["id"] for one in results.response["violations"]] == []
    page.keyboard.press("Escape")
    assert not entry.is_visible()
    assert opener.evaluate("one => one === document.activeElement"), "the place is kept"
    page.keyboard.press("Space")
    page.locator("h1").click()
    assert not entry.is_visible(), "a click elsewhere closes it"
    opener.focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert entry.evaluate("one => one === document.activeElement")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{lands}")
    page.close()


def test_before_one_is_logged_in(browser: object, chief: Watched) -> None:
    with person(browser, chief.base) as visitor:  # type: ignore[arg-type]
        assert violations(visitor, "/login", PHONE) == []


def test_nothing_went_wrong_in_the_browser(chief: Watched) -> None:
    assert chief.problems == []


def test_the_bundled_rules_are_recent() -> None:
    """WCAG 2.2 came with axe-core 4.5."""
    script = (Path(axe_module.__file__).parent / "axe.min.js").read_text("utf-8")[:200]
    version = re.search(r"axe v(\d+)\.(\d+)", script)
    assert version is not None
    assert (int(version[1]), int(version[2])) >= (4, 10)
