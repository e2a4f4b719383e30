"""The contract of remote care: an allow-list both ways, proven answers, clocks that are off."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from uplink.care import (
    CARE_PATH,
    MAX_CARE_BYTES,
    CameraState,
    CareClient,
    CareError,
    CareOrder,
    CareReport,
    Command,
    LockState,
    RemoteConfig,
    RemoteException,
    RemoteHours,
    SpoolState,
    VersionedConfig,
    decode_report,
    encode_report,
)
from uplink.keys import MasterKeyRing, SensorKey
from uplink.messages import Health
from uplink.signing import ANSWER_HEADER, ClockSkewError, parse_authorization, sign_answer, verify_request
from uplink.transport import Reply, TransportError

NOW = 1_790_000_000.0
REPORT = CareReport(
    version="1.2.3",
    uptime=3600,
    config_version=4,
    locks=(LockState(name="core dumps", holds=True), LockState(name="files", holds=False)),
    cameras=(CameraState(sensor_id="hall-3", state="counting", health=(Health.DARK,), rate=7.5),),
    spool=SpoolState(waiting=3),
    temperature=51.5,
)
ORDER = CareOrder(
    config=VersionedConfig(version=5, config=RemoteConfig(fps=10.0, hours=RemoteHours(mon=("08:00-18:00",)))),
    command=Command(id="0" * 32, action="restart"),
)


class Clock:
    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class Service:
    """Proves requests and signs answers as the real one does; a transport at the same time."""

    def __init__(self, key: SensorKey, status: int = 200, body: bytes = ORDER.model_dump_json().encode()) -> None:
        self.key, self.status, self.body = key, status, body
        self.reports: list[CareReport] = []
        self.signs = True
        self.answers_with = key

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        assert url == "http://10.0.0.1:8400" + CARE_PATH
        claim = parse_authorization(headers["Authorization"])
        status, answer = self.status, self.body
        try:
            verify_request(
                self.key,
                claim,
                method="POST",
                path=CARE_PATH,
                body=body,
                now=NOW,
                content_type=headers["Content-Type"],
            )
        except ClockSkewError:
            status, answer = 401, b"{}"
        else:
            self.reports.append(decode_report(body))
        signed = sign_answer(self.answers_with, claim, status=status, body=answer, now=NOW)
        return Reply(status, {ANSWER_HEADER.lower(): signed} if self.signs else {}, answer)


@pytest.fixture
def key() -> SensorKey:
    found = MasterKeyRing.create().sensor_key("hall-3")
    assert found is not None
    return found


def client(service: Service, clock: Clock | None = None) -> CareClient:
    return CareClient("http://10.0.0.1:8400/", lambda: service.key, service, clock or Clock())


def test_a_report_goes_out_and_an_order_comes_back(key: SensorKey) -> None:
    service = Service(key)
    assert client(service).exchange(REPORT) == ORDER
    assert service.reports == [REPORT]


@pytest.mark.parametrize("skew", [-1e6, -400.0, 400.0, 1e6])
def test_a_wrong_clock_is_learnt_from_the_signed_answer(key: SensorKey, skew: float) -> None:
    service = Service(key)
    asking = client(service, Clock(NOW + skew))
    assert asking.exchange(REPORT) == ORDER
    assert asking.exchange(REPORT) == ORDER


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"signs": False}, "not signed"),
        ({"status": 503}, "503"),
        ({"status": 403}, "403"),
        ({"body": b"{"}, "not valid"),
        ({"body": b'{"config": {"version": 1, "config": {"source": "rtsp://spy"}}}'}, "not valid"),
        ({"body": b'{"command": {"id": "' + b"0" * 32 + b'", "action": "shell"}}'}, "not valid"),
        ({"body": b" " * (MAX_CARE_BYTES + 1)}, "at most"),
    ],
)
def test_an_order_that_is_not_proven_or_not_allowed_is_none(
    key: SensorKey, change: dict[str, object], says: str
) -> None:
    service = Service(key)
    for name, value in change.items():
        setattr(service, name, value)
    with pytest.raises(CareError, match=says):
        client(service).exchange(REPORT)


def test_another_sensors_key_signs_no_order(key: SensorKey) -> None:
    service = Service(key)
    other = MasterKeyRing.create().sensor_key("hall-3")
    assert other is not None
    service.answers_with = other
    with pytest.raises(CareError, match="does not fit"):
        client(service).exchange(REPORT)


def test_a_link_that_is_down_is_an_error_that_can_be_logged(key: SensorKey) -> None:
    class Down(Service):
        def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Reply:
            raise TransportError("the connection was refused or broke")

    with pytest.raises(CareError, match="refused or broke"):
        client(Down(key)).exchange(REPORT)


def test_a_newer_service_may_say_more_than_is_understood() -> None:
    assert CareOrder.model_validate_json('{"config": null, "weather": "fine"}') == CareOrder()


def test_a_report_survives_the_way() -> None:
    assert decode_report(encode_report(REPORT)) == REPORT


@given(st.binary(max_size=400))
def test_no_bytes_but_a_report_are_a_report(body: bytes) -> None:
    with pytest.raises(ValueError) as refused:  # a whole report does not come about by chance
        decode_report(body)
    assert len(str(refused.value)) < 500


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=80),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=5,
    )
)
def test_a_field_that_is_not_on_the_list_refuses_the_whole(value: object) -> None:
    content = json.loads(encode_report(REPORT))
    with pytest.raises(ValueError, match="Extra inputs"):
        decode_report(json.dumps({**content, "thumbnail": value}).encode())


def _texts(model: type[BaseModel], place: str = "") -> list[str]:
    """Places in a model's schema where a text has no pattern, no fixed value and no short list."""
    free: list[str] = []

    def walk(schema: dict[str, object], at: str) -> None:
        if schema.get("type") == "string" and not {"pattern", "enum", "const", "format"} & set(schema):
            free.append(at)
        for name, inner in schema.items():
            if isinstance(inner, dict):
                walk(inner, f"{at}.{name}")
            elif isinstance(inner, list):
                for item in inner:
                    if isinstance(item, dict):
                        walk(item, f"{at}.{name}")

    walk(model.model_json_schema(), place)
    return free


def test_no_field_of_report_or_order_can_hold_free_text() -> None:
    assert _texts(CareReport) == []
    assert _texts(CareOrder) == []


def test_the_largest_report_there_can_be_is_too_small_for_a_picture() -> None:
    lock = LockState(name="x" * 32, holds=False)
    camera = CameraState(sensor_id="x" * 63, state="x" * 32, health=tuple(Health)[1:], rate=999.9999999)
    report = REPORT.model_copy(update={"locks": (lock,) * 16, "cameras": (camera,) * 16})
    assert len(encode_report(report)) < MAX_CARE_BYTES / 2


@pytest.mark.parametrize(
    ("model", "values"),
    [
        (RemoteConfig, {"fps": 5.0, "idle_fps": 6.0}),
        (RemoteConfig, {"fps": 0.0}),
        (RemoteConfig, {"scene": {}}),
        (RemoteConfig, {"unlocked": True}),
        (RemoteHours, {"mon": ["7-22"]}),
        (RemoteHours, {"mon": ["07:00-22:00"] * 9}),
        (RemoteException, {"first": "yesterday"}),
        (VersionedConfig, {"version": 0, "config": {}}),
        (Command, {"id": "0" * 32, "action": "preview"}),
        (CareReport, {"version": "1", "uptime": -1}),
        (CareReport, {"version": "a b", "uptime": 1}),
        (CareReport, {"version": "1", "uptime": 1, "temperature": float("nan")}),
        (CameraState, {"sensor_id": "hall-3", "state": "rtsp://user:secret@camera"}),
    ],
)
def test_bounds(model: type[BaseModel], values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        model.model_validate(values)
