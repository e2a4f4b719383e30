"""A sensor's care in the portal: what it says, its locks, what it is told; and who may."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import pytest
from fastapi.testclient import TestClient

from analytics.care import Care
from analytics.domain.model import Building, Closure, MeasuringHours, Room, Sensor, Span, Watch, WatchKind
from analytics.web.portal.pages.sensors_care import remote_hours
from tests.analytics.data_parts import ORG, World, world
from uplink.care import CameraState, CareReport, LockState, SpoolState

NOW = datetime(2026, 3, 4, 9, 0, tzinfo=UTC)
HERE = f"/o/{ORG}/sensors/hall-3/care"
REPORT = CareReport(
    version="1.2.3",
    uptime=7200,
    locks=(LockState(name="files", holds=True), LockState(name="swap", holds=False)),
    cameras=(CameraState(sensor_id="hall-3", state="counting", rate=12.5),),
    spool=SpoolState(waiting=3),
    temperature=61.5,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("care-portal"), campus=None, now=NOW) as campus:
        store = campus.store
        store.put_buildings(ORG, [Building(ORG, "main", "Main")])
        store.put_rooms(ORG, [Room(ORG, "m-101", "main", "101")])
        watches = (Watch("m-101", WatchKind.ROOM),)
        for sensor_id in ("hall-3", "hall-new"):
            store.add_sensor(Sensor(ORG, sensor_id, watches=watches, created_at=NOW, enrolled_at=NOW))
        yield campus


@pytest.fixture
def care(made: World) -> Care:
    return Care(made.portal.keep, lambda: NOW)


def english(made: World, role: str, **membership: Any) -> TestClient:
    """Somebody who reads English."""
    person = made.as_(role, **membership)
    person.post("/account/language", data={"language": "en"})
    return person


def test_a_sensor_that_never_reported_says_so(made: World) -> None:
    answer = english(made, "facility-manager").get(f"/o/{ORG}/sensors/hall-new/care")
    assert answer.status_code == 200
    assert "has not reported yet" in answer.text


def test_what_a_sensor_says_and_which_locks_hold(made: World, care: Care) -> None:
    care.take(ORG, "hall-3", REPORT)
    text = english(made, "facility-manager").get(HERE).text
    for shown in ("1.2.3", "61.5 °C", "12.5 pictures a second", "no memory on a disk (swap)", "does not hold"):
        assert shown in text
    assert "Restart the sensor" not in text, "who may only look is not offered it"


def test_a_configuration_goes_to_the_sensor_with_its_rooms_hours(made: World, care: Care) -> None:
    answer = english(made, "operator").post(HERE, data={"fps": "8,5", "idle_fps": "", "with_hours": "1"})
    assert answer.status_code == 303
    order = care.take(ORG, "hall-3", REPORT)
    assert order.config is not None
    assert order.config.config.fps == 8.5
    assert order.config.config.hours is not None
    assert order.config.config.hours.mon == ("07:00-22:00",)
    assert order.config.config.hours.sun == ()
    assert "waits for the sensor" in english(made, "operator").get(HERE).text
    for state, says in (
        ({"trying_version": order.config.version}, "is on trial"),
        ({"config_version": order.config.version}, "is in force"),
        ({"refused_version": order.config.version, "refused_because": "not healthy"}, "was rolled back"),
    ):
        care.take(ORG, "hall-3", REPORT.model_copy(update=state))
        assert says in english(made, "operator").get(HERE).text
    assert "sensor.configure" in made.actions()


@pytest.mark.parametrize("rates", [{"fps": "0"}, {"fps": "many"}, {"fps": "5", "idle_fps": "6"}, {"fps": "nan"}])
def test_rates_that_cannot_be_are_refused(made: World, rates: dict[str, str]) -> None:
    answer = english(made, "operator").post(HERE, data=rates)
    assert answer.status_code == 400
    assert "from 0.1 to 60" in answer.text


def test_a_restart_is_asked_once(made: World, care: Care) -> None:
    assert english(made, "operator").post(f"{HERE}/restart").status_code == 303
    command = care.take(ORG, "hall-3", REPORT).command
    assert command is not None
    assert "A restart waits" in english(made, "operator").get(HERE).text
    care.take(ORG, "hall-3", REPORT.model_copy(update={"last_command": command.id}))
    assert "A restart waits" not in english(made, "operator").get(HERE).text
    assert "sensor.restart" in made.actions()


def test_who_may_not_does_not(made: World) -> None:
    assert english(made, "viewer").get(HERE).status_code == 403
    assert english(made, "facility-manager").post(f"{HERE}/restart").status_code == 403
    assert english(made, "operator").get(f"/o/{ORG}/sensors/none-such/care").status_code == 404
    elsewhere = english(made, "facility-manager", buildings=frozenset({"another"}))
    assert elsewhere.get(HERE).status_code == 404


def test_a_further_camera_shows_what_its_board_says_of_it_and_takes_no_orders(made: World, care: Care) -> None:
    rear = f"/o/{ORG}/sensors/hall-rear/care"
    watches = (Watch("m-101", WatchKind.ROOM),)
    made.store.add_sensor(Sensor(ORG, "hall-rear", watches=watches, created_at=NOW, enrolled_at=NOW, board="hall-3"))
    care.take(ORG, "hall-3", REPORT)
    page = english(made, "operator").get(rear).text
    assert "It is a camera on the board of hall-3" in page
    assert "has not reported yet" in page  # the board does not name it
    both = (*REPORT.cameras, CameraState(sensor_id="hall-rear", state="away", rate=0.0))
    care.take(ORG, "hall-3", REPORT.model_copy(update={"cameras": both}))
    page = english(made, "operator").get(rear).text
    for shown in ("1.2.3", "Camera of hall-rear", "no picture", "/sensors/hall-3/care"):
        assert shown in page
    for hidden in ("Camera of hall-3", "Restart the sensor", "Try it"):
        assert hidden not in page
    for order, data in (("", {"fps": "5"}), ("/restart", {})):
        assert english(made, "operator").post(rear + order, data=data).status_code == 409
    assert care.orders(ORG, "hall-rear").command is None
    assert "Camera of hall-rear" in english(made, "operator").get(HERE).text


def test_closures_that_are_over_are_not_sent() -> None:
    hours = MeasuringHours(((Span(480, 720), Span(780, 1440)), *((),) * 6))
    closures = (Closure(date(2026, 12, 24), date(2027, 1, 2)), Closure(date(2026, 1, 1), date(2026, 1, 2)))
    told = remote_hours(hours, closures, NOW)
    assert told.mon == ("08:00-12:00", "13:00-24:00")
    assert told.tue == ()
    assert told.exceptions is not None
    assert json.loads(told.model_dump_json())["exceptions"] == [
        {"first": "2026-12-24", "last": "2027-01-01", "windows": []}
    ]
