"""schemathesis over the whole OpenAPI document: whatever is sent, the service answers and does not fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig

from analytics.demo.campus import ROOM
from analytics.settings import Limits
from analytics.web.api.access import Guard
from tests.analytics.portal_world import ORG, World, world

PROOFS = ("session", "token", "session", "token", "wrong token", "nobody")  # mostly those that get in
REAL = {"org_id": ORG, "room_id": ROOM}


@pytest.fixture(scope="module")
def campus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("schema"), rooms=1, weeks=1, limits=Limits(stranger_burst=10_000)) as made:
        yield made


@pytest.fixture(scope="module")
def document(campus: World) -> Any:
    """The schema, with cases that keep it and cases that break it."""
    both = GenerationConfig(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
    config = SchemathesisConfig(projects=ProjectsConfig(default=ProjectConfig(generation=both)))
    return schemathesis.openapi.from_asgi("/openapi.json", campus.app, config=config)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_nothing_that_is_sent_makes_it_fail(campus: World, document: Any, data: Any) -> None:
    operations = [operation.ok() for operation in document.get_all_operations()]
    operation = data.draw(st.sampled_from(operations), label="operation")
    case = data.draw(operation.as_strategy(), label="case")
    if data.draw(st.sampled_from((True, True, False)), label="ids that exist"):
        case.path_parameters = {name: REAL.get(name, value) for name, value in (case.path_parameters or {}).items()}
    client = campus.client({"session": "controller"}.get(proof := data.draw(st.sampled_from(PROOFS)), "nobody"))
    if proof.endswith("token"):
        client.headers["authorization"] = f"Bearer {'hdr_nonsense' if proof == 'wrong token' else key_of(campus)}"
    arguments = case.as_transport_kwargs(base_url="http://127.0.0.1:8400")
    arguments = {name: value for name, value in arguments.items() if name in ("method", "url", "headers", "params")}
    if not isinstance(case.body, schemathesis.core.NotSet) and case.body is not None:
        arguments["json" if isinstance(case.body, dict | list | int | float | bool) else "content"] = case.body
    campus.app.state.api_guard = Guard()  # the limits of one caller would hide the rest
    answer = client.request(**arguments)
    assert answer.status_code < 500, f"{case.method} {case.formatted_path}: {answer.text[:300]}"
    if answer.status_code >= 400:
        assert answer.headers["content-type"] == "application/problem+json"


def key_of(campus: World) -> str:
    """A token with all rights that a machine can have; made once."""
    from analytics.accounts.tokens import MACHINE_RIGHTS

    if "token" not in campus.sessions:
        chief = campus.services.portal.people.user(campus.user_ids["controller"])
        assert chief is not None
        campus.sessions["token"] = campus.services.portal.tokens.create(chief, ORG, "all", MACHINE_RIGHTS)
    return campus.sessions["token"]


def test_every_operation_is_reached(document: Any) -> None:
    found = {(operation.ok().method.upper(), operation.ok().path) for operation in document.get_all_operations()}
    assert {("POST", "/v1/counts"), ("POST", "/v1/enrolment"), ("GET", "/healthz"), ("GET", "/metrics")} <= found
    assert len(found) >= 10
