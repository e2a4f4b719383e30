"""Remote care from the service's side: through the counts' door, sealed in the store, orders until they are taken."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from analytics.care import FORGOTTEN_AFTER, ORDER_KIND, STATUS_KIND, Care
from analytics.store.kept import SealedKeep
from tests.analytics.conftest import MASTER_KEY
from tests.analytics.service_parts import Bench, bench, from_address
from uplink.care import CARE_PATH, MAX_CARE_BYTES, CareOrder, CareReport, LockState, RemoteConfig, encode_report
from uplink.codec import JSON_TYPE
from uplink.keys import SensorKey
from uplink.signing import ANSWER_HEADER, sign_request, verify_answer

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
REPORT = CareReport(version="1.2.3", uptime=60, locks=(LockState(name="files", holds=False),))


class Hands:
    """A clock with a movable hand."""

    now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with bench(tmp_path_factory.mktemp("care")) as found:
        yield found


def post(parts: Bench, key: SensorKey, body: bytes, client: httpx.Client | None = None) -> httpx.Response:
    claim = sign_request(key, method="POST", path=CARE_PATH, body=body, now=time.time(), content_type=JSON_TYPE)
    headers = {"Authorization": claim.header(), "Content-Type": JSON_TYPE}
    answer = (client or parts.client).post(CARE_PATH, content=body, headers=headers)
    if ANSWER_HEADER in answer.headers:
        verify_answer(key, claim, answer.headers[ANSWER_HEADER], status=answer.status_code, body=answer.content)
    return answer


def test_a_report_is_kept_and_its_answer_signed(parts: Bench) -> None:
    key = parts.sensor("hall-1")
    before = datetime.now(UTC)
    answer = post(parts, key, encode_report(REPORT))
    assert answer.status_code == 200
    assert ANSWER_HEADER in answer.headers
    assert CareOrder.model_validate_json(answer.content) == CareOrder()
    status = parts.services.care.status("default", "hall-1")
    assert status is not None
    assert status.report == REPORT
    assert before <= status.received_at <= datetime.now(UTC)
    assert status.broken_locks == ["files"]
    assert not status.silent(status.received_at + timedelta(minutes=5))
    assert status.silent(status.received_at + timedelta(minutes=6))
    assert "hall-1" in parts.services.care.every("default")
    assert parts.services.care.every("another") == {}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"{}",
        json.dumps({**json.loads(encode_report(REPORT)), "picture": "aGVsbG8="}).encode(),
        json.dumps({**json.loads(encode_report(REPORT)), "version": "/9j/4AAQSkZJRgABAQAAAQABAAD" * 4}).encode(),
        b"\xff\xd8\xff\xe0" + bytes(2000),
    ],
)
def test_what_is_no_report_is_refused_whole_and_not_repeated(parts: Bench, body: bytes) -> None:
    key = parts.services.keys.master.sensor_key("hall-refused")
    if parts.store.find_sensor("hall-refused") is None:
        parts.sensor("hall-refused")
    assert key is not None
    answer = post(parts, key, body)
    assert answer.status_code == 400
    assert answer.json()["type"] == "urn:headroom:problem:not-a-report"
    assert "aGVsbG8" not in answer.text
    assert "/9j/" not in answer.text
    assert parts.services.care.status("default", "hall-refused") is None


def test_a_report_is_small(parts: Bench) -> None:
    key = parts.sensor("hall-large")
    answer = post(parts, key, encode_report(REPORT) + b" " * MAX_CARE_BYTES)
    assert answer.status_code == 413


def test_nobody_reports_for_another_or_without_proof(parts: Bench) -> None:
    other = parts.services.keys.master.sensor_key("hall-unknown")
    assert other is not None
    assert post(parts, other, encode_report(REPORT)).status_code == 401
    assert parts.client.post(CARE_PATH, content=encode_report(REPORT)).status_code == 401
    key = parts.sensor("hall-outside")
    outside = from_address(parts, "203.0.113.9", "203.0.113.1")
    assert post(parts, key, encode_report(REPORT), outside).status_code == 403
    revoked = parts.sensor("hall-revoked", revoked_at=NOW)
    assert post(parts, revoked, encode_report(REPORT)).status_code == 401


def test_orders_wait_until_the_sensor_says_that_it_has_them(parts: Bench) -> None:
    key, care = parts.sensor("hall-told"), parts.services.care
    config = care.configure("default", "hall-told", RemoteConfig(fps=8.0))
    command = care.restart("default", "hall-told")
    for _ in range(2):  # a lost answer loses no order
        order = CareOrder.model_validate_json(post(parts, key, encode_report(REPORT)).content)
        assert order == CareOrder(config=config, command=command)
    has = REPORT.model_copy(update={"trying_version": 1, "last_command": command.id})
    assert CareOrder.model_validate_json(post(parts, key, encode_report(has)).content) == CareOrder()


def test_a_revoked_sensor_is_forgotten(parts: Bench) -> None:
    key, care = parts.sensor("hall-gone"), parts.services.care
    post(parts, key, encode_report(REPORT))
    care.restart("default", "hall-gone")
    parts.services.enrolment.revoke("hall-gone")
    assert care.status("default", "hall-gone") is None
    assert parts.services.portal.keep.get(ORDER_KIND, "default", "hall-gone") is None


# -- the same without the web, on both stores


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def care(store: object, hands: Hands) -> Care:
    return Care(SealedKeep(store, MASTER_KEY), hands)  # type: ignore[arg-type]


def test_versions_only_grow_and_a_refused_one_is_not_sent_again(care: Care) -> None:
    first = care.configure("a", "hall-3", RemoteConfig(fps=5.0))
    second = care.configure("a", "hall-3", RemoteConfig(fps=6.0))
    assert (first.version, second.version) == (1, 2)
    assert care.take("a", "hall-3", REPORT).config == second
    refused = REPORT.model_copy(update={"refused_version": 2, "refused_because": "not healthy"})
    assert care.take("a", "hall-3", refused).config is None
    assert care.configure("a", "hall-3", RemoteConfig()).version == 3


def test_an_old_command_is_forgotten(care: Care, hands: Hands) -> None:
    command = care.restart("a", "hall-3")
    hands.now = NOW + timedelta(hours=23)
    assert care.take("a", "hall-3", REPORT).command == command
    hands.now = NOW + timedelta(hours=25)
    assert care.take("a", "hall-3", REPORT).command is None


def test_organisations_do_not_see_each_other_and_forgetting_forgets(care: Care) -> None:
    care.take("a", "hall-3", REPORT)
    care.configure("a", "hall-3", RemoteConfig(fps=5.0))
    assert care.status("b", "hall-3") is None
    assert care.orders("b", "hall-3").config is None
    care.forget("a", "hall-3")
    assert care.status("a", "hall-3") is None
    assert care.orders("a", "hall-3").config is None


def test_the_status_of_a_sensor_that_is_gone_expires(care: Care, store: object) -> None:
    care.take("a", "hall-3", REPORT)
    care.configure("a", "hall-3", RemoteConfig(fps=5.0))
    store.expire_kept(NOW + FORGOTTEN_AFTER - timedelta(days=1))  # type: ignore[attr-defined]
    assert care.status("a", "hall-3") is not None
    store.expire_kept(NOW + FORGOTTEN_AFTER + timedelta(days=1))  # type: ignore[attr-defined]
    assert care.status("a", "hall-3") is None
    assert care.orders("a", "hall-3").config is not None, "what a sensor was told stays in force"


def test_two_processes_take_reports_of_one_sensor(store: object) -> None:
    """Compare-and-swap: none of them fails, and the versions they give stay apart."""
    keep = SealedKeep(store, MASTER_KEY)  # type: ignore[arg-type]
    both = [Care(keep), Care(keep)]
    with ThreadPoolExecutor(2) as pool:
        given = list(pool.map(lambda n: both[n % 2].configure("a", "hall-3", RemoteConfig()).version, range(8)))
    assert sorted(given) == list(range(1, 9))


def test_the_store_sees_neither_status_nor_orders(care: Care, store: object) -> None:
    care.take("a", "hall-3", REPORT)
    care.configure("a", "hall-3", RemoteConfig(fps=5.0))
    for kind in (STATUS_KIND, ORDER_KIND):
        raw = store.read_kept(kind, "a", "hall-3")  # type: ignore[attr-defined]
        assert b"fps" not in raw.sealed
        assert b"1.2.3" not in raw.sealed
