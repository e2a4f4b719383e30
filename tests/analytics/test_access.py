"""Who may do what: every route times everybody there is. Deny by default.

The rules are read from the program itself; that every route *has* a rule is a test of its own, so that a new page
cannot be forgotten here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from starlette.routing import Mount, Route

from analytics.accounts.model import User
from analytics.accounts.rights import Membership, Right, Role
from analytics.accounts.tokens import MACHINE_RIGHTS
from analytics.demo.campus import ROOM
from analytics.web.api.mount import all_routes
from analytics.web.portal.mount import all_pages
from analytics.web.portal.visit import LOGGED_IN, PUBLIC
from tests.analytics.portal_world import MEMBERS, NOBODY, ORG, OTHER, OTHER_ROOM, PASSWORD, STRANGER, World, world

RULES = all_pages().rules
# Written out here, apart from the program: a slip in `analytics.accounts.rights` must show.
MAY = {
    "viewer": {"see-figures"},
    "facility-manager": {"see-figures", "export", "see-sensors", "manage-rooms"},
    "timetabler": {"see-figures", "export", "see-events", "see-small-counts"},
    "controller": {
        "see-figures", "see-events", "see-small-counts", "export", "see-sensors", "manage-rooms", "manage-sensors",
        "manage-sources", "manage-retention", "manage-users", "manage-shares", "see-audit",
    },
    "operator": {"see-sensors", "manage-sensors", "manage-rooms", "manage-sources"},
    "viewer-of-one-building": {"see-figures"},
}  # fmt: skip
API_RULES = all_routes().rules
INSIDE = [(method, path, rule) for method, path, rule in RULES if isinstance(rule, Right)]
NARROW_MANAGER = "manager-of-one-building"
NOT_PAGES = {"/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/counts", "/v1/care", "/v1/enrolment"}
"""Doors of programs, not of people; sensors' doors prove signatures (test_ingest), the others are tested below."""


@pytest.fixture(scope="module")
def campus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("access")) as made:
        yield made


def address(campus: World, path: str, org_id: str = ORG) -> str:
    """A path with its gaps filled by things that exist."""
    known = {
        "org_id": org_id,
        "room_id": ROOM if org_id == ORG else OTHER_ROOM,
        "user_id": campus.user_ids["viewer"],
    }
    return re.sub(r"\{(\w+)(?::\w+)?\}", lambda gap: known.get(gap.group(1), "none-such"), path)


def ask(client: TestClient, method: str, path: str) -> httpx.Response:
    return client.request(method, path, data={} if method == "POST" else None)


def refused_for_rights(answer: httpx.Response) -> bool:
    """The one answer that everybody without the right gets, and nobody else."""
    return answer.status_code == 403 and "you have no right to do this" in answer.text


def test_every_route_has_a_rule(campus: World) -> None:
    known = {(method, path) for method, path, _ in RULES}
    assert len(list(walk(campus.app.routes))) > len(known), "the walk misses routes"
    api = {(method, path) for method, path, _ in API_RULES}
    for route in walk(campus.app.routes):
        if isinstance(route, Mount):
            assert route.path == "/static", f"{route.path}: what may be read there?"
            continue
        assert isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}:
            assert (method, route.path) in known | api or route.path in NOT_PAGES, f"{method} {route.path} has no rule"


def walk(routes: Any) -> Iterator[Any]:
    """Routes, those of included routers too."""
    for route in routes:
        inner = getattr(route, "original_router", None) or getattr(route, "router", None)
        if inner is not None and not isinstance(route, Route | Mount):
            yield from walk(inner.routes)
        else:
            yield route


@pytest.mark.parametrize(("method", "path", "rule"), INSIDE, ids=lambda value: str(value))
def test_pages_of_an_organisation(campus: World, method: str, path: str, rule: Right) -> None:
    target = address(campus, path)
    for page in (True, False):
        answer = ask(campus.client(NOBODY, page=page), method, target)
        assert answer.status_code == (303 if page else 401), f"nobody got {answer.status_code}"
        assert not page or answer.headers["location"].startswith("/login")
        answer = ask(campus.client(STRANGER, page=page), method, target)
        assert answer.status_code == 404, f"another organisation's controller got {answer.status_code}"
    for actor in MEMBERS:
        if rule.value not in MAY[actor]:
            answer = ask(campus.client(actor, page=False), method, target)
            assert refused_for_rights(answer), f"{actor} got {answer.status_code}"


@pytest.mark.parametrize(("method", "path", "rule"), [r for r in INSIDE if r[0] == "GET"], ids=lambda value: str(value))
def test_who_holds_the_right_gets_the_page(campus: World, method: str, path: str, rule: Right) -> None:
    for actor in MEMBERS:
        if rule.value in MAY[actor]:
            answer = ask(campus.client(actor), method, address(campus, path))
            assert not refused_for_rights(answer), f"{actor} holds {rule} and was refused"
            assert answer.status_code < 500, f"{actor} got {answer.status_code}"
            if "none-such" not in str(answer.url):
                assert answer.status_code in (200, 303, 400, 422), f"{actor} got {answer.status_code}"


@pytest.mark.parametrize("path", [path for method, path, rule in INSIDE if method == "GET" and "{room_id}" in path])
def test_a_room_of_others_is_not_there(campus: World, path: str) -> None:
    """Of another organisation, and of a building that is not the reader's."""
    rooms = campus.services.store.rooms(ORG)
    building = campus.services.store.room(ORG, ROOM).building_id
    beyond = next(room.id for room in rooms if room.building_id != building)
    for actor, room_id in (("controller", OTHER_ROOM), ("viewer-of-one-building", beyond)):
        target = path.replace("{org_id}", ORG).replace("{room_id}", room_id)
        answer = campus.client(actor, page=False).get(re.sub(r"\{\w+\}", "x", target))
        assert answer.status_code in (403, 404), f"{actor} got {answer.status_code}"


def test_the_members_of_one_organisation_cannot_reach_into_another_by_form(campus: World) -> None:
    """Ids of people and things of another organisation in the forms of one's own."""
    stranger = campus.client(STRANGER, page=False)
    victim = campus.user_ids["viewer"]
    for action, form in (("rights", {"role": "viewer"}), ("reset", {}), ("remove", {})):
        answer = stranger.post(f"/o/{OTHER}/users/{victim}/{action}", data=form)
        assert answer.status_code == 403
        assert "invitation/" not in answer.text
    user = campus.services.portal.people.user(victim)
    assert user is not None
    assert user.membership(ORG) == campus.memberships["viewer"]


def test_nobody_gives_away_what_they_do_not_hold(campus: World) -> None:
    """Only the controller sets rights, and no membership of one building reaches over all of them."""
    for actor in MEMBERS:
        answer = campus.client(actor, page=False).post(
            f"/o/{ORG}/users/invite", data={"email": "x@campus.example", "role": "controller"}
        )
        assert (answer.status_code == 200) == (actor == "controller"), actor


@pytest.mark.parametrize(
    ("method", "path", "rule"), [r for r in RULES if r[2] == LOGGED_IN], ids=lambda value: str(value)
)
def test_pages_of_ones_own_account(campus: World, method: str, path: str, rule: str) -> None:
    answer = ask(campus.client(NOBODY), method, address(campus, path))
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login")
    if method == "GET":
        assert campus.client("viewer").get(address(campus, path)).status_code == 200


@pytest.mark.parametrize(("method", "path", "rule"), [r for r in RULES if r[2] == PUBLIC], ids=lambda value: str(value))
def test_public_pages_are_few_and_show_nothing(campus: World, method: str, path: str, rule: str) -> None:
    assert path in {"/", "/login", "/logout", "/invitation/{secret}", "/static/plotly.min.js"}
    answer = ask(campus.client(NOBODY), method, address(campus, path))
    assert answer.status_code in (200, 303, 401, 404, 429)
    assert "Simulated campus" not in answer.text
    assert "simulated-campus" not in answer.text


def test_rights_taken_away_end_at_the_next_click(campus: World) -> None:
    """Nothing is remembered in the session: rights are judged at each request."""
    people = campus.services.portal.people
    viewer = campus.client("timetabler")
    path = f"/o/{ORG}/data"
    assert viewer.get(path).status_code == 200
    chief = people.user(campus.user_ids["controller"])
    assert chief is not None
    people.set_membership(chief, campus.user_ids["timetabler"], campus.memberships["viewer"])
    assert viewer.get(path).status_code in (303, 403)
    people.set_membership(chief, campus.user_ids["timetabler"], campus.memberships["timetabler"])
    campus.login("timetabler")


# --- programs ---------------------------------------------------------------------------------------------------------


def chief_of(campus: World) -> User:
    found = campus.services.portal.people.user(campus.user_ids["controller"])
    assert found is not None
    return found


@pytest.fixture(scope="module")
def tokens(campus: World) -> dict[str, str]:
    """A key for each single right, one without any, and one of another organisation with all."""
    make = campus.services.portal.tokens.create
    stranger = campus.services.portal.people.user(campus.user_ids[STRANGER])
    assert stranger is not None
    made = {right.value: make(chief_of(campus), ORG, right.value, [right]) for right in sorted(MACHINE_RIGHTS)}
    return {
        **made,
        "none": make(chief_of(campus), ORG, "none", []),
        STRANGER: make(stranger, OTHER, "x", MACHINE_RIGHTS),
    }


@pytest.mark.parametrize(("method", "path", "rule"), API_RULES, ids=lambda value: str(value))
def test_the_api_by_session_and_by_token(
    campus: World, tokens: dict[str, str], method: str, path: str, rule: Right | str
) -> None:
    target = address(campus, path)
    assert ask(campus.client(page=False), method, target).status_code == 401
    for actor in (*MEMBERS, STRANGER):
        status = ask(campus.client(actor, page=False), method, target).status_code
        if not isinstance(rule, Right):
            assert status == 200, f"{actor} got {status}"
        elif actor == STRANGER:
            assert status == 404, f"{actor} got {status}"
        else:
            assert (status == 403) == (rule.value not in MAY[actor]), f"{actor} got {status}"
    for name, secret in tokens.items():
        client = campus.client(page=False)
        status = client.request(method, target, headers={"authorization": f"Bearer {secret}"}).status_code
        if not isinstance(rule, Right):
            assert status == 200, f"token {name} got {status}"
        elif name == STRANGER:
            assert status == 404, f"token {name} got {status}"
        else:
            assert (status == 403) == (name != rule.value), f"token {name} got {status}"


def test_a_token_opens_no_page_and_a_withdrawn_one_nothing(campus: World, tokens: dict[str, str]) -> None:
    client = campus.client(page=False)
    for _, path, _ in INSIDE[:10]:
        answer = client.get(address(campus, path), headers={"authorization": f"Bearer {tokens['see-figures']}"})
        assert answer.status_code in (401, 405)
    secret = campus.services.portal.tokens.create(chief_of(campus), ORG, "short-lived", [Right.SEE_FIGURES])
    token = campus.services.portal.tokens.authenticate(secret)
    assert token is not None
    campus.services.portal.tokens.withdraw(chief_of(campus), ORG, token.id)
    answer = client.get(f"/v1/organisations/{ORG}/rooms", headers={"authorization": f"Bearer {secret}"})
    assert answer.status_code == 401


def test_a_token_cannot_be_given_rights_over_people(campus: World) -> None:
    for right in set(Right) - MACHINE_RIGHTS:
        answer = campus.client("controller", page=False).post(
            f"/o/{ORG}/tokens", data={"token_name": "x", "rights": [right.value]}
        )
        assert answer.status_code == 403, right


def test_figures_of_the_running_service_are_for_this_machine(campus: World) -> None:
    away = TestClient(campus.app, base_url="http://127.0.0.1:8400", client=("203.0.113.9", 4242))
    assert away.get("/metrics").status_code in (401, 403)
    assert away.get("/openapi.json").status_code == 200


# --- one building of several ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [path for method, path, _ in INSIDE if method == "POST" and "settings" in path])
def test_who_keeps_one_building_changes_no_other(campus: World, path: str) -> None:
    """A facility manager of one building, with the forms of another building's rooms and hours."""
    store, people = campus.services.store, campus.services.portal.people
    own = store.room(ORG, ROOM).building_id
    beyond = next(room for room in store.rooms(ORG) if room.building_id != own)
    if NARROW_MANAGER not in campus.sessions:
        membership = Membership(ORG, Role.FACILITY_MANAGER, frozenset({own}))
        secret = people.invite(chief_of(campus), f"{NARROW_MANAGER}@campus.example", membership).secret
        people.accept(secret, PASSWORD, name="Narrow")
        campus.login(NARROW_MANAGER)
    known = {"org_id": ORG, "room_id": beyond.id, "building_id": beyond.building_id}
    target = re.sub(r"\{(\w+)\}", lambda gap: known.get(gap.group(1), "none-such"), path)
    before = (store.organisation(ORG), store.buildings(ORG), store.rooms(ORG))
    form = {
        "number": "9.99", "name": "Taken over", "seats": "1", "valid_from": "2026-01-01", "building": "House of theirs",
        "first": "2026-01-01", "last": "2026-01-02", "time_zone": "UTC", "monday": "07:00-08:00", "kind": "closure",
    }  # fmt: skip
    answer = campus.client(NARROW_MANAGER, page=False).post(target, data=form)
    assert answer.status_code < 500
    after = (store.organisation(ORG), store.buildings(ORG), store.rooms(ORG))
    others = [[x for x in side if getattr(x, "building_id", getattr(x, "id", "")) != own] for side in after[1:]]
    assert others == [
        [x for x in side if getattr(x, "building_id", getattr(x, "id", "")) != own] for side in before[1:]
    ], f"{answer.status_code}"
    assert after[0] == before[0], "the organisation itself is not one building's"
