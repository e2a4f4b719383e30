"""Hostile input: names that are markup or formulas, operators in place of words, paths that climb, odd bytes; headers.

The world of these tests has rooms, buildings, events and people whose names are attacks.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from datetime import timedelta
from html.parser import HTMLParser
from urllib.parse import quote

import httpx
import pytest

from analytics.accounts.rights import Right
from analytics.demo.campus import ROOM
from analytics.store.base import Store
from analytics.store.kept import INSTALLATION, SealedKeep
from analytics.web.portal.mount import all_pages
from analytics.web.portal.security import HEADERS
from tests.analytics.portal_world import BOOKER, NOBODY, ORG, PASSWORD, STRANGER, World, world

RULES = all_pages().rules
PAGES = sorted(path for method, path, rule in RULES if method == "GET" and not path.startswith("/static"))
VOID = {"input", "img", "br", "hr", "meta", "link", "wbr", "col", "source"}
OPERATORS = (
    '{"$ne": ""}',
    '{"$gt": ""}',
    "$where: sleep(500)",
    "' OR '1'='1",
    "'; DROP TABLE kept; --",
    "\x00",
    "%00",
    "../../keys/store.key",
    "..%2f..%2fkeys%2fstore.key",
    "\u202e\ufeff",
    "a" * 5000,
)


@pytest.fixture(scope="module")
def campus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("injection")) as made:
        yield made


def address(campus: World, path: str) -> str:
    known = {"org_id": ORG, "room_id": ROOM, "user_id": campus.user_ids["viewer"]}
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda gap: known.get(gap.group(1), "none-such"), path)


class Reader(HTMLParser):
    """What a browser would run: scripts with code in them, event handlers, addresses that are code."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.runs: list[str] = []
        self.blocks: list[str] = []
        self.text: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self._inside = ""
        if tag == "script":
            self._inside = "block" if given.get("type") == "application/json" else "code"
            if given.get("src", "/static/").startswith("/static/") is False:
                self.runs.append(f"script from {given['src']}")
        if tag in {"iframe", "object", "embed", "base", "style"}:
            self.runs.append(f"<{tag}>")
        for name, value in attributes:
            if name.startswith("on") or name == "srcdoc":
                self.runs.append(f"{tag} {name}={value}")
            if name in {"href", "src", "action", "formaction"} and (value or "").strip().lower().startswith(
                ("javascript:", "data:", "vbscript:")
            ):
                self.runs.append(f"{tag} {name}={value}")
            if name == "src" and value == "x":
                self.runs.append("the planted picture")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "block":
            self.blocks.append(data)
        elif self._inside == "code" and data.strip():
            self.runs.append(f"script: {data.strip()[:60]}")
        else:
            self.text.append(data)


@pytest.mark.parametrize("path", PAGES)
def test_names_never_become_code(campus: World, path: str) -> None:
    """Every page, read the way a browser would, by the one who sees most."""
    answer = campus.client("controller").get(address(campus, path), follow_redirects=True)
    assert answer.status_code < 500
    if not answer.headers["content-type"].startswith("text/html"):
        assert answer.headers["x-content-type-options"] == "nosniff"
        return
    read = Reader(answer.text)
    assert read.runs == []
    for block in read.blocks:
        assert "<" not in block, "a data block could be ended by a name"
        json.loads(block)


@pytest.mark.parametrize("path", ["now", "rooms", f"rooms/{ROOM}", "bookings", "users", "settings", "data"])
def test_the_attack_is_on_the_page_as_text(campus: World, path: str) -> None:
    """Else the test above would prove nothing."""
    text = "".join(Reader(campus.client("controller").get(f"/o/{ORG}/{path}").text).text)
    assert "alert(" in text


def test_fields_that_come_back_are_text(campus: World) -> None:
    """What somebody typed is shown again: login, links, filters."""
    attack = '"><script>alert(3)</script>'
    client = campus.client(NOBODY)
    shown = [
        client.post("/login", data={"email": attack, "password": "x", "next": attack}).text,
        client.get("/login", params={"next": attack}).text,
        client.get(f"/invitation/{quote(attack, safe='')}").text,
        client.get(f"/{quote(attack, safe='')}").text,
    ]
    chief = campus.client("controller")
    for page in ("now", "overview", "rooms", "bookings", "compare", "data", "sensors", "settings", "audit"):
        for name in ("from", "to", "building", "class", "period", "without", "before", "room", "what", "unit"):
            shown.append(chief.get(f"/o/{ORG}/{page}", params={name: attack}).text)
    for text in shown:
        assert "<script>alert(3)" not in text
        assert '"><script' not in text


# --- spreadsheets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["nl", "en"])
@pytest.mark.parametrize("what", ["rooms", "bookings"])
def test_no_cell_of_an_export_runs_in_a_spreadsheet(campus: World, what: str, language: str) -> None:
    today = campus.now.date()
    answer = campus.client("controller").get(
        f"/o/{ORG}/data/export",
        params={
            "what": what, "format": "csv", "language": language,
            "from": (today - timedelta(days=9)).isoformat(), "to": today.isoformat(),
        },
    )  # fmt: skip
    assert answer.status_code == 200
    assert "attachment" in answer.headers["content-disposition"]
    rows = list(csv.reader(io.StringIO(answer.text.lstrip("\ufeff")), delimiter=";" if language == "nl" else ","))
    cells = [cell for row in rows for cell in row]
    assert any(("HYPERLINK" if what == "bookings" else "@SUM(1)") in cell for cell in cells), (
        "the attack is in the file"
    )
    for cell in cells:
        if cell[:1] in ("=", "+", "-", "@", "\t", "\r"):
            assert re.fullmatch(r"[+-]?[\d.,]+(E[+-]?\d+)?", cell), cell
    assert BOOKER not in answer.text


# --- operators and odd words ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attack", OPERATORS)
def test_operators_are_words_like_any_other(campus: World, attack: str) -> None:
    client = campus.client(NOBODY)
    for form in ({"email": attack, "password": attack}, {"email[$ne]": "", "password[$ne]": ""}):
        assert client.post("/login", data=form).status_code in (401, 422, 429)
    client.cookies.set("headroom", quote(attack, safe="")[:3000])
    assert client.get("/account").status_code == 303


@pytest.mark.parametrize("attack", OPERATORS)
def test_ids_in_addresses_open_nothing(campus: World, attack: str) -> None:
    word = quote(attack, safe="")
    chief = campus.client("controller", page=False)
    for path in (f"/o/{word}/now", f"/o/{ORG}/rooms/{word}", f"/o/{ORG}/settings/rooms/{word}", f"/invitation/{word}"):
        assert chief.get(path).status_code in (403, 404, 405, 422), path
    for path in (f"/o/{ORG}/users/{word}/reset", f"/o/{ORG}/sensors/{word}/revoke"):
        answer = chief.post(path, data={})
        assert answer.status_code in (303, 400, 403, 404, 405, 409, 422), path
    sensors = campus.services.store.sensors(ORG)
    assert not any(sensor.revoked_at for sensor in sensors)


@pytest.mark.parametrize("body", ['{"email": {"$ne": ""}, "password": {"$ne": ""}}', "[]", "null", "{", ""])
def test_json_where_a_form_belongs_is_no_login(campus: World, body: str) -> None:
    answer = campus.client(NOBODY).post("/login", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (401, 422, 429)
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("attack", [*OPERATORS[:6], "session/../user"])
def test_both_stores_look_up_words_and_nothing_else(store: Store, attack: str) -> None:
    """The same on SQLite and MongoDB: a word in place of an id finds nothing, and a word kept is found as it is."""
    keep = SealedKeep(store, bytes(range(32)))  # type: ignore[arg-type]
    keep.put("user", INSTALLATION, "somebody", {"email": "a@campus.example"})
    assert keep.get("user", INSTALLATION, attack) is None
    assert keep.get(attack, INSTALLATION, "somebody") is None
    assert list(keep.every("user", attack)) == []
    assert store.find_sensor(attack) is None
    assert not keep.remove("user", INSTALLATION, attack)
    assert keep.get("user", INSTALLATION, "somebody") is not None


def test_sql_in_filters_finds_nothing_more(campus: World) -> None:
    """Both a wrong word and a clever one are refused or ignored alike."""
    client = campus.client("viewer-of-one-building")
    plain = client.get(f"/o/{ORG}/rooms", params={"building": "no-such-building"})
    clever = client.get(f"/o/{ORG}/rooms", params={"building": "x' OR 1=1 --"})
    assert plain.status_code == clever.status_code
    assert "sim-" not in clever.text


# --- paths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/static/../core.py",
        "/static/%2e%2e/core.py",
        "/static/..%2f..%2fcore.py",
        "/static/....//core.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/..\\core.py",
        "/static/style.css%00.py",
        f"/o/{ORG}/rooms/..%2f..%2faudit",
        f"/o/{ORG}/data/export/..%2f..%2f..%2fkeys",
    ],
)
def test_paths_that_climb_lead_nowhere(campus: World, path: str) -> None:
    answer = campus.client("viewer").get(path)
    assert answer.status_code in (403, 404, 405, 422)
    assert "root:" not in answer.text
    assert "class Portal" not in answer.text


def test_names_of_files_that_are_offered_are_ours(campus: World) -> None:
    """A name with quotes or line breaks in a filter must not get into a header."""
    answer = campus.client("controller").get(
        f"/o/{ORG}/data/export", params={"what": 'rooms"\r\nX-Evil: 1', "format": 'csv"\r\nX-Evil: 1'}
    )
    assert "x-evil" not in answer.headers
    assert answer.status_code < 500


# --- headers ----------------------------------------------------------------------------------------------------------


def every_kind_of_answer(campus: World) -> Iterator[httpx.Response]:
    nobody, chief = campus.client(NOBODY), campus.client("controller")
    yield from (nobody.get(path) for path in ("/", "/login", "/none", "/static/style.css", "/static/none", "/healthz"))
    yield from (nobody.get(path) for path in ("/openapi.json", "/v1/none", "/v1/rooms", "/metrics"))
    yield nobody.post("/login", data={"email": "x", "password": "y"})
    yield nobody.post("/v1/counts", content=b"nonsense")
    yield nobody.put("/login")
    yield nobody.post("/login", headers={"origin": "https://evil.example"})
    yield from (chief.get(address(campus, path)) for path in PAGES)
    yield campus.client("viewer").get(f"/o/{ORG}/audit")
    yield campus.client(STRANGER).get(f"/o/{ORG}/now")


def test_every_answer_of_every_kind_carries_the_headers(campus: World) -> None:
    for answer in every_kind_of_answer(campus):
        for name, value in HEADERS.items():
            if name != "Cache-Control":
                assert answer.headers.get(name) == value, f"{answer.url}: {name}"
        assert "server" not in answer.headers, str(answer.url)
        if "/static/" not in str(answer.url):
            assert "no-store" in answer.headers["cache-control"] or "private" in answer.headers["cache-control"], str(
                answer.url
            )


def test_the_policy_allows_no_code_but_our_files() -> None:
    policy = dict(part.strip().split(" ", 1) for part in HEADERS["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["form-action"] == policy["connect-src"] == "'self'"
    assert "unsafe" not in policy["script-src"] + policy["style-src"]


def test_errors_repeat_no_secret_and_show_no_inside(campus: World) -> None:
    for answer in every_kind_of_answer(campus):
        assert "Traceback" not in answer.text
        assert 'File "/' not in answer.text
    answer = campus.client(NOBODY).post("/login", data={"email": "x" * 500, "password": PASSWORD})
    assert PASSWORD not in answer.text


def test_names_of_bookers_are_on_no_page_without_the_right(campus: World) -> None:
    for actor, membership in campus.memberships.items():
        if actor != STRANGER and Right.SEE_BOOKERS not in membership.rights:
            client = campus.client(actor)
            for path in PAGES:
                assert BOOKER not in client.get(address(campus, path)).text, f"{actor} {path}"
