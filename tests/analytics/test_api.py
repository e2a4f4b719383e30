"""The REST API: who may ask, what comes, in pages and with tags; readiness and metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.accounts.rights import ROLES, Right, Role
from analytics.ingest.limits import RateLimiter
from analytics.store.errors import StoreUnavailableError
from analytics.web.api.access import Api, Guard, from_cursor, to_cursor
from analytics.web.api.mount import all_routes
from analytics.web.problems import ProblemError
from tests.analytics.data_parts import CAMPUS, ORG, World, world

ONE = f"/v1/organisations/{ORG}"
WEEK = f"from={CAMPUS.first}&to={CAMPUS.last}"
EVERYTHING = [Right.SEE_FIGURES, Right.SEE_EVENTS, Right.SEE_SENSORS]


@pytest.fixture(scope="module")
def campus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as made:
        yield made


@pytest.fixture(autouse=True)
def rested(campus: World) -> None:
    campus.app.state.api_guard = Guard()


def machine(campus: World, rights: list[Right] | None = None, **options: Any) -> TestClient:
    chief = campus.portal.people.by_email("chief@campus.example")
    assert chief is not None
    secret = campus.portal.tokens.create(chief, ORG, "BI", EVERYTHING if rights is None else rights, **options)
    return campus.stranger(authorization=f"Bearer {secret}")


def paths_of(campus: World) -> dict[str, str]:
    room = campus.store.rooms(ORG)[0].id
    return {path: path.format(org_id=ORG, room_id=room) for _, path, _ in all_routes().rules}


# -- who may


def test_every_route_says_who_may_and_nobody_else_gets_in(campus: World) -> None:
    api = all_routes()
    registered = {route.path for route in api.router.routes}  # type: ignore[attr-defined]
    assert registered == {path for _, path, _ in api.rules}
    paths = paths_of(campus)
    other = machine(campus, [Right.SEE_EVENTS])
    for _, path, rule in api.rules:
        nobody = campus.stranger().get(paths[path])
        assert nobody.status_code == 401
        assert nobody.headers["www-authenticate"] == "Bearer"
        assert nobody.headers["content-type"] == "application/problem+json"
        for role in Role:
            status = campus.as_(role.value).get(paths[path]).status_code
            expected = 200 if not isinstance(rule, Right) or rule in ROLES[role] else 403
            assert status == expected, (path, role)
        foreign = machine(campus).get(paths[path].replace(ORG, "default"))
        assert foreign.status_code == (404 if isinstance(rule, Right) else 200)
        if rule is Right.SEE_FIGURES:
            assert other.get(paths[path]).status_code == 403


def test_a_route_without_a_rule_cannot_be_registered() -> None:
    with pytest.raises(ValueError, match="unknown rule"):
        Api().get("/v1/x", "public")
    with pytest.raises(ValueError, match="must name one"):
        Api().get("/v1/x", Right.EXPORT)


def test_a_wrong_token_is_not_helped_out_by_a_cookie_and_guessing_is_slowed(campus: World) -> None:
    chief = campus.as_("controller")
    assert chief.get("/v1/organisations", headers={"authorization": "Bearer hdr_wrong"}).status_code == 401
    answers = [campus.stranger(authorization=f"Bearer hdr_{i}").get("/v1/organisations").status_code for i in range(32)]
    assert answers[0] == 401
    assert answers[-1] == 429


def test_callers_are_slowed_one_by_one(campus: World) -> None:
    campus.app.state.api_guard.callers = RateLimiter(0.01, 3)
    busy, calm = machine(campus), machine(campus)
    answers = [busy.get("/v1/organisations") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert int(answers[-1].headers["retry-after"]) > 1
    assert calm.get("/v1/organisations").status_code == 200


def test_a_token_for_one_building_sees_it_alone(campus: World) -> None:
    buildings = sorted({room.building_id for room in campus.store.rooms(ORG)})
    narrow = machine(campus, buildings=buildings[:1])
    assert [b["id"] for b in narrow.get(f"{ONE}/buildings").json()["items"]] == buildings[:1]
    assert {r["building_id"] for r in narrow.get(f"{ONE}/rooms").json()["items"]} == set(buildings[:1])
    hidden = next(room.id for room in campus.store.rooms(ORG) if room.building_id != buildings[0])
    for path in (f"/rooms/{hidden}", f"/rooms/{hidden}/occupancy", f"/figures?room={hidden}",
                 f"/bookings?room={hidden}", f"/figures?building={buildings[-1]}"):  # fmt: skip
        assert narrow.get(ONE + path).status_code == 404
    inside = {room.id for room in campus.store.rooms(ORG) if room.building_id == buildings[0]}
    assert {row["label"] for row in narrow.get(f"{ONE}/figures?{WEEK}").json()["rows"]} == inside
    assert {b["room_id"] for b in narrow.get(f"{ONE}/bookings?{WEEK}").json()["items"]} <= inside
    assert {room for s in narrow.get(f"{ONE}/sensors").json()["items"] for room in s["rooms"]} <= inside


# -- what comes


def test_lists_come_in_pages_that_name_the_next_one(campus: World) -> None:
    client = machine(campus)
    whole = client.get(f"{ONE}/bookings?{WEEK}&limit=1000").json()["items"]
    assert len(whole) > 50
    found: list[dict[str, Any]] = []
    path: str | None = f"{ONE}/bookings?{WEEK}&limit=17"
    while path is not None:
        answer = client.get(path)
        found += answer.json()["items"]
        link = re.search(r'<([^>]+)>; rel="next"', answer.headers.get("link", ""))
        assert (link is None) == (answer.json()["next"] is None)
        path = link.group(1) if link else None
    assert found == whole
    assert len({(b["source"], b["source_id"]) for b in found}) == len(found)
    rooms = client.get(f"{ONE}/rooms?limit=4").json()
    rest = client.get(f"{ONE}/rooms?limit=4&cursor={rooms['next']}").json()
    assert len(rooms["items"]) + len(rest["items"]) == CAMPUS.rooms
    assert rest["next"] is None


@pytest.mark.parametrize("cursor", ["x", "🙂", "bnVsbA", to_cursor("a"), to_cursor("", "0001", "", ""), "%00"])
def test_foreign_cursors_are_refused(campus: World, cursor: str) -> None:
    assert machine(campus).get(f"{ONE}/bookings?{WEEK}", params={"cursor": cursor}).status_code in (200, 422)
    if cursor != to_cursor("a"):
        with pytest.raises(ProblemError):
            from_cursor(cursor, 1)


@given(st.lists(st.text(), min_size=1, max_size=4))
def test_cursors_come_back_as_they_went(key: list[str]) -> None:
    assert from_cursor(to_cursor(*key), len(key)) == tuple(key)


def test_bookings_tell_what_became_of_them_and_not_who_booked(campus: World) -> None:
    items = machine(campus).get(f"{ONE}/bookings?{WEEK}&limit=1000").json()["items"]
    assert {"held", "no_show"} <= {item["outcome"] for item in items}
    assert not any("book" in name and name != "bookings" for item in items for name in item)
    withheld = [item for item in items if item["attendance_withheld"]]
    assert all(item["attendance"] is None for item in withheld)
    assert not [item for item in items if item["attendance"] and 0 < item["attendance"] < 5]
    seen = campus.as_("timetabler").get(f"{ONE}/bookings?{WEEK}&limit=1000").json()["items"]
    small = [item for item in seen if item["attendance"] and 0 < item["attendance"] < 5]
    assert len(small) == len(withheld) > 0


def test_figures_add_up_and_have_a_tag(campus: World) -> None:
    client = machine(campus)
    query = f"{ONE}/figures?{WEEK}&figure=frequency&figure=booked_hours"
    answer = client.get(query)
    document = answer.json()
    assert document["units"] == {"coverage": "ratio", "frequency": "ratio", "booked_hours": "hours"}
    total = sum(row["figures"]["booked_hours"] for row in document["rows"])
    assert total == pytest.approx(document["total"]["booked_hours"], abs=0.01)
    for by in ("hour", "weekday", "week", "building", "class", "day", "month", "period", "all"):
        parts = client.get(f"{query}&by={by}").json()
        assert parts["total"]["frequency"] == document["total"]["frequency"]
    again = client.get(query, headers={"if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get(query, headers={"if-none-match": 'W/"x", "y"'}).status_code == 200
    assert answer.headers["cache-control"] == "private, no-cache"


def test_people_step_by_step(campus: World) -> None:
    room = campus.store.rooms(ORG)[0].id
    client = campus.as_("controller")
    window = "start=2026-09-08T07:00:00Z&end=2026-09-08T16:00:00Z"
    minutes = client.get(f"{ONE}/rooms/{room}/occupancy?{window}").json()
    quarters = client.get(f"{ONE}/rooms/{room}/occupancy?{window}&step=quarter").json()
    assert (len(minutes["people"]), len(quarters["people"])) == (540, 36)
    assert max(p for p in minutes["people"] if p is not None) == max(p for p in quarters["peak"] if p is not None)
    first = [p for p in minutes["people"][:15] if p is not None]
    assert quarters["people"][0] == pytest.approx(sum(first) / len(first), abs=0.06)
    assert quarters["coverage"][0] == pytest.approx(len(first) / 15, abs=0.001)
    future = client.get(f"{ONE}/rooms/{room}/occupancy?start=2026-12-01T07:00:00Z&end=2026-12-01T08:00:00Z").json()
    assert set(future["people"]) == {None}
    assert set(future["coverage"]) == {0.0}
    few = machine(campus).get(f"{ONE}/rooms/{room}/occupancy?{window}").json()
    assert few["withheld"] > 0
    assert not [p for p in few["people"] if p is not None and 0 < p < 5]


@pytest.mark.parametrize(
    "query",
    ["figures?from=x", "figures?from=2026-09-10&to=2026-09-01", "figures?by=person", "figures?figure=wealth",
     "figures?from=1000-01-01", "figures?to=9999-12-31", "figures?weekday=9", "rooms?limit=0", "rooms?limit=9999",
     "rooms/{room}/occupancy?start=2026-09-08T07:00:00", "rooms/{room}/occupancy?step=second",
     "rooms/{room}/occupancy?start=2026-01-01T00:00:00Z&end=2026-09-01T00:00:00Z",
     "rooms/{room}/occupancy?start=0001-01-01T00:00:00%2B10:00"],
)  # fmt: skip
def test_wrong_questions_are_refused_with_the_name_of_what_is_wrong(campus: World, query: str) -> None:
    room = campus.store.rooms(ORG)[0].id
    answer = machine(campus).get(f"{ONE}/{query.format(room=room)}")
    assert answer.status_code == 422
    assert answer.json()["detail"].startswith("query.")


def test_sensors_fare_as_on_the_page(campus: World) -> None:
    items = machine(campus).get(f"{ONE}/sensors").json()["items"]
    assert len(items) == len(campus.store.sensors(ORG))
    assert all(0 <= item["coverage_7_days"] <= 1 for item in items)
    assert any(item["rest"] for item in items)
    assert not any(word in json.dumps(items) for word in ("tunnel", "wireguard", "key"))


# -- for those who run it


def test_metrics_are_for_this_machine_and_for_tokens(campus: World) -> None:
    here = TestClient(campus.app, base_url="http://127.0.0.1:8400", client=("127.0.0.1", 5))
    text = here.get("/metrics").text
    for name in ("headroom_sensors{", "headroom_job_failures_total{", "headroom_http_requests_total{", "headroom_info{",
                 "headroom_rollups_waiting{"):  # fmt: skip
        assert name in text
    assert "@" not in text
    assert "chief" not in text.casefold()
    assert campus.stranger().get("/metrics").status_code == 401
    assert here.get("/metrics", headers={"x-forwarded-for": "203.0.113.9"}).status_code == 401
    assert here.get("/metrics", headers={"host": "evil.example"}).status_code == 401
    assert machine(campus, [Right.SEE_FIGURES]).get("/metrics").status_code == 403
    assert campus.as_("controller").get("/metrics").status_code == 403
    own = machine(campus).get("/metrics").text
    assert f'organisation="{ORG}"' in own
    assert 'organisation="default"' not in own
    assert "headroom_http" not in own


def test_ready_when_the_store_answers(campus: World, monkeypatch: pytest.MonkeyPatch) -> None:
    assert campus.stranger().get("/readyz").json() == {"status": "ready"}

    def fail() -> None:
        raise StoreUnavailableError("MongoDB cannot answer durably now")

    monkeypatch.setattr(campus.portal.store, "ping", fail)
    answer = campus.stranger().get("/readyz")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"


def test_a_store_that_fails_is_a_503_everywhere(campus: World, monkeypatch: pytest.MonkeyPatch) -> None:
    client = machine(campus)
    client.get(f"{ONE}/rooms")

    def fail(*_: object, **__: object) -> None:
        raise StoreUnavailableError("MongoDB cannot answer durably now")

    monkeypatch.setattr(campus.portal.store, "rooms", fail)
    assert client.get(f"{ONE}/rooms").status_code == 503


# -- fuzzing from the document


@pytest.fixture(scope="module")
def api_schema(campus: World) -> Any:
    return schemathesis.openapi.from_asgi("/openapi.json", campus.app)


@pytest.mark.parametrize("path", [path for _, path, _ in all_routes().rules] + ["/metrics", "/readyz"])
@settings(max_examples=8, deadline=None,
          suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large,
                                 HealthCheck.function_scoped_fixture])  # fmt: skip
@given(data=st.data())
def test_no_question_breaks_the_service(api_schema: Any, campus: World, path: str, data: Any) -> None:
    campus.app.state.api_guard = Guard()
    case = data.draw(api_schema[path]["GET"].as_strategy())
    real = {"org_id": ORG, "room_id": campus.store.rooms(ORG)[0].id}
    if data.draw(st.booleans()):
        case.path_parameters = {name: real[name] for name in case.path_parameters or {}}
    client = campus.as_("controller")
    query = {name: value for name, value in (case.query or {}).items() if value is not None}
    answer = client.get(case.formatted_path, params=query)
    assert answer.status_code < 500, answer.text


def test_the_document_names_rights_and_proofs(campus: World) -> None:
    document = campus.stranger().get("/openapi.json").json()
    assert {"token", "session", "sensorSignature"} <= set(document["components"]["securitySchemes"])
    for _, path, rule in all_routes().rules:
        described = document["paths"][path]["get"]
        assert described["security"] == [{"token": []}, {"session": []}]
        assert described["x-right"] == (rule.value if isinstance(rule, Right) else rule)
        assert {"401", "429", "503"} <= set(described["responses"])
