"""The portal's doors: login, invitations, users, and what browsers of other sites may not do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from analytics.accounts.rights import Membership, Role
from analytics.domain.model import Building, Organisation
from analytics.store.sqlite import SqliteStore
from analytics.web.portal.core import Portal
from analytics.web.portal.mount import mount_portal
from analytics.web.portal.pages.login import local_path
from analytics.web.problems import add_problem_handlers

MASTER = bytes(range(32))
PASSWORD = "a bicycle on the canal"
PAGE = {"accept": "text/html"}


@pytest.fixture
def portal(tmp_path: Path) -> Iterator[Portal]:
    with SqliteStore.open(tmp_path / "store.db", MASTER) as store:
        store.put_organisation(Organisation("campus", "Campus", language="en"))
        store.put_organisation(Organisation("other", "Other"))
        store.put_buildings("campus", [Building("campus", "main", "Main"), Building("campus", "west", "West")])
        portal: Any = Portal.build(store, MASTER, clock=lambda: datetime(2026, 3, 2, 8, tzinfo=UTC))  # type: ignore[arg-type]
        portal.people.accept(
            portal.people.first_link("campus").secret, PASSWORD, email="chief@campus.example", name="Chief"
        )
        yield portal


@pytest.fixture
def app(portal: Portal) -> FastAPI:
    app = FastAPI(docs_url=None, redoc_url=None)
    add_problem_handlers(app)
    mount_portal(app, portal)
    return app


@pytest.fixture
def client(app: FastAPI) -> TestClient:
    return TestClient(app, follow_redirects=False, headers=PAGE)


def login(client: TestClient, email: str = "chief@campus.example") -> TestClient:
    answer = client.post("/login", data={"email": email, "password": PASSWORD})
    assert answer.status_code == 303, answer.text
    return client


def invite(client: TestClient, role: str, email: str = "new@campus.example", **extra: str) -> str:
    answer = client.post("/o/campus/users/invite", data={"email": email, "role": role, **extra})
    assert answer.status_code == 200, answer.text
    found = re.search(r'id="link">(.*?)</code>', answer.text)
    assert found is not None
    return found.group(1).split("testserver")[1]


def test_without_a_login_every_page_leads_to_it_and_back(client: TestClient) -> None:
    answer = client.get("/o/campus/users?x=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/o/campus/users%3Fx%3D1")
    answer = client.post(
        "/login", data={"email": "chief@campus.example", "password": PASSWORD, "next": "/o/campus/users?x=1"}
    )
    assert answer.headers["location"] == "/o/campus/users?x=1"
    assert client.get("/o/campus/users").status_code == 200


def test_the_session_cookie_is_kept_from_scripts_and_other_sites(client: TestClient, portal: Portal) -> None:
    cookie = client.post("/login", data={"email": "chief@campus.example", "password": PASSWORD}).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/" in cookie


def test_a_cookie_planted_before_the_login_is_no_session_after_it(client: TestClient, portal: Portal) -> None:
    planted = "0" * 43
    client.cookies.set("headroom", planted)
    answer = client.post("/login", data={"email": "chief@campus.example", "password": PASSWORD})
    assert planted not in answer.headers["set-cookie"]
    assert portal.people.authenticate(planted) is None


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "same-origin"}, 303),
        ({"origin": "http://testserver"}, 303),
        ({}, 303),
    ],
)
def test_requests_that_another_site_made_the_browser_send_change_nothing(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    login(client)
    answer = client.post("/account/language", data={"language": "en"}, headers=headers)
    assert answer.status_code == status


def test_every_answer_carries_the_headers(client: TestClient) -> None:
    for path in ("/login", "/nothing", "/static/style.css", "/o/campus/users"):
        answer = client.get(path)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self'" in policy and "unsafe-inline'; img" in policy
        assert "'unsafe-inline'" not in policy.split("style-src-attr")[0]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("/o/campus/now", "/o/campus/now"),
        ("https://evil.example/", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("/a\r\nSet-Cookie: x=1", "/"),
        ("javascript:alert(1)", "/"),
        ("", "/"),
    ],
)
def test_the_login_leads_nowhere_else(target: str, expected: str) -> None:
    assert local_path(target) == expected


def test_an_invited_colleague_gets_in_once_and_sees_less(app: FastAPI, client: TestClient) -> None:
    login(client)
    link = invite(client, "viewer")
    colleague = TestClient(app, follow_redirects=False, headers=PAGE)
    assert "new@campus.example" in colleague.get(link).text
    assert colleague.post(link, data={"password": PASSWORD, "name": "New"}).status_code == 303
    assert colleague.get("/o/campus/users").status_code == 403
    assert colleague.get("/o/campus/audit").status_code == 403
    assert colleague.get("/account").status_code == 200
    assert TestClient(app, headers=PAGE).get(link).status_code == 404


def test_another_organisation_looks_like_one_that_is_not_there(client: TestClient) -> None:
    login(client)
    texts = [client.get(f"/o/{org}/users") for org in ("other", "nowhere")]
    assert [answer.status_code for answer in texts] == [404, 404]
    assert texts[0].text == texts[1].text.replace("nowhere", "other")


def test_texts_of_people_never_become_markup(client: TestClient, portal: Portal) -> None:
    handout = portal.people.invite(
        portal.people.members("campus")[0], "x@campus.example", Membership("campus", Role.VIEWER)
    )
    portal.people.accept(handout.secret, PASSWORD, name="<script>alert(1)</script>")
    login(client)
    text = client.get("/o/campus/users").text
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_wrong_passwords_are_answered_alike_and_then_slowed_down(client: TestClient) -> None:
    answers = [
        client.post("/login", data={"email": email, "password": "wrong wrong wrong"})
        for email in ("chief@campus.example", "nobody@campus.example")
    ]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].text.replace("chief", "nobody") == answers[1].text
    for _ in range(4):
        client.post("/login", data={"email": "chief@campus.example", "password": "wrong wrong wrong"})
    answer = client.post("/login", data={"email": "chief@campus.example", "password": PASSWORD})
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0


def test_the_audit_shows_who_did_what(client: TestClient) -> None:
    login(client)
    invite(client, "viewer")
    text = client.get("/o/campus/audit").text
    assert "Chief" in text
    assert "<td>persoon uitgenodigd</td>" in text, "what happened is said in words, not in the log's keys"
    assert "user.invite" not in text


def test_a_key_for_a_machine_is_shown_once(client: TestClient, portal: Portal) -> None:
    login(client)
    text = client.post("/o/campus/tokens", data={"token_name": "BI", "rights": ["see-figures"]}).text
    secret = re.search(r"hdr_[\w-]+", text)
    assert secret is not None
    assert portal.tokens.authenticate(secret.group()) is not None
    assert secret.group() not in client.get("/o/campus/users").text


def test_plotly_comes_from_here_and_is_cached(client: TestClient) -> None:
    answer = client.get("/static/plotly.min.js")
    assert answer.status_code == 200
    assert len(answer.content) > 1_000_000
    assert client.get("/static/plotly.min.js", headers={"if-none-match": answer.headers["etag"]}).status_code == 304


def test_files_outside_the_static_folder_are_not_served(client: TestClient) -> None:
    for path in ("/static/../core.py", "/static/%2e%2e/core.py", "/static/..%2fcore.py"):
        assert client.get(path).status_code in (404, 405)
