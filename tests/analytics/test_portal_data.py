"""The pages Data and Sensors."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from analytics.accounts.rights import Right
from analytics.domain.model import PlannedBooking, WatchKind
from analytics.enrolment import RefusedError
from analytics.sensor_health import DayRest
from analytics.web.portal.pages.sensors import spark
from tests.analytics.data_parts import CAMPUS, NOW, ORG, World, world
from tests.analytics.test_service_cli import Blank

WEEK = f"from={CAMPUS.first}&to={CAMPUS.last}"
BASE = f"/o/{ORG}"


@pytest.fixture(scope="module")
def campus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world")) as made:
        yield made


def exported(campus: World, query: str, role: str = "controller", **membership: object) -> bytes:
    answer = campus.as_(role, **membership).get(f"{BASE}/data/export?{WEEK}&{query}")
    assert answer.status_code == 200, answer.text
    assert "attachment" in answer.headers["content-disposition"]
    return answer.content


def dutch_rows(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode("utf-8-sig")), delimiter=";"))


def test_the_page_shows_what_the_file_will_hold(campus: World) -> None:
    text = campus.as_("controller").get(f"{BASE}/data?{WEEK}&unit=day").text
    assert "planned_frequency" in text
    assert f"/data/export?what=rooms&amp;unit=day&amp;from={CAMPUS.first}" in text
    assert len(re.findall(r"<tr><td>", text)) == 30  # six rooms, five days


def test_files_of_all_kinds_hold_the_same_rows(campus: World, tmp_path: Path) -> None:
    dutch = dutch_rows(exported(campus, "unit=hour&format=csv&language=nl"))
    english = list(
        csv.DictReader(io.StringIO(exported(campus, "unit=hour&format=csv&language=en").decode("utf-8-sig")))
    )
    (tmp_path / "x.parquet").write_bytes(exported(campus, "unit=hour&format=parquet"))
    table = pq.read_table(tmp_path / "x.parquet")
    document = campus.as_("controller").get(f"{BASE}/data/export?{WEEK}&unit=hour&format=json").json()
    assert len(dutch) == len(english) == table.num_rows == len(document["rows"]) > 300
    assert dutch[0]["coverage"].replace(",", ".") == english[0]["coverage"]
    assert re.fullmatch(r"[01],\d{4}", dutch[0]["coverage"])


def test_each_file_is_in_the_audit_log_with_filter_and_rows(campus: World) -> None:
    room = campus.store.rooms(ORG)[0]
    rows = dutch_rows(exported(campus, f"unit=day&room={room.id}&weekday=1&weekday=2&format=csv&language=nl"))
    entry = campus.portal.audit.entries(ORG, limit=1)[0]
    assert entry.action == "export"
    assert entry.detail["rows"] == len(rows) == 2
    assert entry.detail["rooms"] == [room.id]
    assert entry.detail["weekdays"] == [1, 2]
    assert entry.detail["format"] == "csv"
    assert "broken_off" not in entry.detail


def test_a_download_that_breaks_off_is_in_the_log_too(campus: World) -> None:
    with campus.as_("controller").stream("GET", f"{BASE}/data/export?{WEEK}&unit=hour&format=json") as answer:
        assert answer.status_code == 200
        next(answer.iter_bytes(100))
    assert campus.portal.audit.entries(ORG, limit=1)[0].action == "export"


def test_bookings_need_the_right_to_see_events_and_small_groups_the_need(campus: World) -> None:
    assert campus.as_("facility-manager").get(f"{BASE}/data?what=bookings&{WEEK}").status_code == 403
    assert campus.as_("facility-manager").get(f"{BASE}/data/export?what=bookings&{WEEK}").status_code == 403
    whole = dutch_rows(exported(campus, "what=bookings&format=csv&language=nl", "timetabler"))
    less = dutch_rows(
        exported(
            campus, "what=bookings&format=csv&language=nl", "timetabler", without=frozenset({Right.SEE_SMALL_COUNTS})
        )
    )
    assert len(whole) == len(less) > 10
    small = [row for row in whole if row["attendance"] and 0 < float(row["attendance"].replace(",", ".")) < 5]
    withheld = [row for row in less if row["attendance_withheld"] == "1"]
    assert len(small) == len(withheld)
    assert all(row["attendance"] == "" for row in withheld)


def test_a_person_of_one_building_gets_its_rooms_alone(campus: World) -> None:
    buildings = sorted({room.building_id for room in campus.store.rooms(ORG)})
    only = frozenset({buildings[0]})
    rows = dutch_rows(exported(campus, "format=csv&language=nl", "facility-manager", buildings=only))
    assert {row["building_id"] for row in rows} == only
    client = campus.as_("facility-manager", buildings=only)
    assert client.get(f"{BASE}/data/export?{WEEK}&building={buildings[-1]}").status_code == 404
    other = next(room for room in campus.store.rooms(ORG) if room.building_id != buildings[0])
    assert client.get(f"{BASE}/data/export?{WEEK}&room={other.id}").status_code == 404
    nowhere = campus.as_("facility-manager", buildings=frozenset({"no-such"}))
    assert nowhere.get(f"{BASE}/data").status_code == 200
    assert dutch_rows(nowhere.get(f"{BASE}/data/export?{WEEK}&language=nl").content) == []


@pytest.mark.parametrize(
    "query",
    [
        "from=yesterday",
        "from=2026-09-10&to=2026-09-01",
        "unit=second",
        "weekday=monday",
        "from=1900-01-01",
        "from=9999-12-31&to=9999-12-31",
        "from=0001-01-01&to=0001-01-01",
        "what=everything",
        "format=xlsx",
    ],
)
def test_wrong_choices_are_refused_with_a_reason(campus: World, query: str) -> None:
    answer = campus.as_("controller").get(f"{BASE}/data/export?{query}")
    assert answer.status_code == 400
    assert len(answer.text) > 20


def test_filters_are_kept_for_oneself_alone(campus: World) -> None:
    chief, other = campus.as_("controller"), campus.as_("facility-manager")
    chief.post(f"{BASE}/data/filters?{WEEK}&unit=week", data={"name": "My <weeks>"})
    text = chief.get(f"{BASE}/data").text
    assert "My &lt;weeks&gt;" in text
    link = re.search(r'href="([^"]*)">My &lt;weeks', text)
    assert link is not None
    assert 'value="week" selected' in chief.get(unescape(link.group(1))).text
    assert "weeks&gt;" not in other.get(f"{BASE}/data").text
    found = re.search(r'name="filter" value="([^"]+)"', text)
    assert found is not None
    other.post(f"{BASE}/data/filters/remove", data={"filter": found.group(1)})
    assert "My &lt;weeks" in chief.get(f"{BASE}/data").text
    chief.post(f"{BASE}/data/filters/remove", data={"filter": found.group(1)})
    assert "My &lt;weeks" not in chief.get(f"{BASE}/data").text


def test_a_title_that_is_a_formula_stays_text_in_the_file(campus: World) -> None:
    room = campus.store.rooms(ORG)[0]
    start = NOW.replace(hour=20)
    booking = PlannedBooking(
        source="evil", source_id="1", start=start, end=start + timedelta(hours=1), room_id=room.id, room_ref=room.id,
        title='=HYPERLINK("http://evil.example";"x")',
    )  # fmt: skip
    campus.store.replace_bookings(ORG, "evil", (start, start + timedelta(hours=2)), [booking], NOW - timedelta(days=1))
    rows = dutch_rows(exported(campus, "what=bookings&format=csv&language=nl"))
    assert any(row["title"].startswith("'=HYPERLINK") for row in rows)


# -- sensors


def test_sensors_show_how_they_fare(campus: World) -> None:
    text = campus.as_("controller").get(f"{BASE}/sensors").text
    assert "Coverage today" in text
    assert text.count('<th scope="row">') == len(campus.store.sensors(ORG))
    assert "%" in text
    assert any(bar in text for bar in "▂▃▄▅▆▇█")


def test_a_sensor_is_added_once_shown_and_revoked(campus: World) -> None:
    chief = campus.as_("controller")
    room = campus.store.rooms(ORG)[0]
    answer = chief.post(
        f"{BASE}/sensors",
        data={"sensor_id": "door-9", "name": "Door 9", "room": room.id, "kind": "door", "with_code": "1"},
    )
    code = re.search(r'id="code">([^<]+)<', answer.text)
    verification = re.search(r'id="verification">([^<]+)<', answer.text)
    assert code is not None
    assert verification is not None
    assert code.group(1) not in chief.get(f"{BASE}/sensors").text
    sensor = campus.store.find_sensor("door-9")
    assert sensor is not None
    assert (sensor.org_id, sensor.watches[0].room_id, sensor.watches[0].kind) == (ORG, room.id, WatchKind.DOOR)
    assert chief.post(f"{BASE}/sensors", data={"sensor_id": "door-9"}).status_code == 400
    assert chief.post(f"{BASE}/sensors", data={"sensor_id": "Door 9"}).status_code == 400
    second = campus.store.rooms(ORG)[1]
    chief.post(f"{BASE}/sensors/door-9/watch", data={"room": second.id, "kind": "room"})
    sensor = campus.store.find_sensor("door-9")
    assert sensor is not None
    assert [(w.room_id, w.valid_until) for w in sensor.watches] == [(room.id, NOW), (second.id, None)]
    assert "the whole room" in chief.get(f"{BASE}/sensors/door-9").text
    assert chief.post(f"{BASE}/sensors/door-9/code").status_code == 200
    assert chief.post(f"{BASE}/sensors/door-9/revoke").status_code == 303
    assert "revoked" in chief.get(f"{BASE}/sensors").text
    assert chief.post(f"{BASE}/sensors/door-9/code").status_code == 400
    assert {"sensor.add", "sensor.watch", "sensor.revoke"} <= set(campus.actions())
    blank = Blank(campus.services.enrolment, code.group(1))
    with pytest.raises(RefusedError):
        blank.knock(verification.group(1))


def test_a_second_camera_is_added_to_a_board_and_ends_with_it(campus: World) -> None:
    chief = campus.as_("controller")
    chief.post("/account/language", data={"language": "en"})
    room = campus.store.rooms(ORG)[0]
    other = next(r for r in campus.store.rooms(ORG) if r.building_id != room.building_id)
    assert chief.post(f"{BASE}/sensors", data={"sensor_id": "twin-1", "room": room.id}).status_code == 200
    assert "Several cameras on one board" in chief.get(f"{BASE}/sensors").text
    second = {"sensor_id": "twin-2", "room": room.id, "board": "twin-1"}
    page = chief.post(f"{BASE}/sensors", data=second).text
    assert "On the board of twin-1:" in page
    assert re.search(r"headroom sensor enrol [-0-9A-Z]+ --service \S+ --camera<", page)
    found = campus.store.find_sensor("twin-2")
    assert found is not None
    assert (found.board, found.watches[0].room_id) == ("twin-1", room.id)
    # No camera of a camera, of nobody's board, or of another organisation's.
    for board, status in (("twin-2", 400), ("none-such", 404), ("theirs", 404)):
        assert chief.post(f"{BASE}/sensors", data={"sensor_id": "twin-9", "board": board}).status_code == status
    assert "on the board of twin-1" in chief.get(f"{BASE}/sensors/twin-2").text
    revoke = chief.get(f"{BASE}/sensors/twin-1").text
    assert re.search(r"end with it, for all their keys lie on that board:</strong> twin-2<", revoke)
    # Whoever did not see that a camera ends too is told first; whoever may not see it cannot end it.
    blind = chief.post(f"{BASE}/sensors/twin-1/revoke")
    assert blind.status_code == 409
    assert "see below what ends with it" in blind.text
    chief.post(f"{BASE}/sensors", data={"sensor_id": "twin-3", "room": other.id, "board": "twin-1"})
    narrow = campus.as_("operator", buildings=frozenset({room.building_id}))
    assert narrow.post(f"{BASE}/sensors/twin-1/revoke", data={"with_cameras": "1"}).status_code == 403
    assert "twin-3" not in narrow.get(f"{BASE}/sensors/twin-1").text
    assert chief.post(f"{BASE}/sensors/twin-3/revoke").status_code == 303
    assert [campus.store.find_sensor(f"twin-{n}").revoked_at for n in (1, 2)] == [None, None]  # type: ignore[union-attr]
    assert chief.post(f"{BASE}/sensors/twin-1/revoke", data={"with_cameras": "1"}).status_code == 303
    assert all(campus.store.find_sensor(f"twin-{n}").revoked_at for n in (1, 2, 3))  # type: ignore[union-attr]
    assert campus.actions().count("sensor.revoke") >= 3


def test_sensors_of_others_are_not_there(campus: World) -> None:
    campus.services.enrolment.add("theirs", org_id="default")
    chief = campus.as_("controller")
    assert "theirs" not in chief.get(f"{BASE}/sensors").text
    assert chief.get(f"{BASE}/sensors/theirs").status_code == 404
    assert chief.post(f"{BASE}/sensors/theirs/revoke").status_code == 404
    found = campus.store.find_sensor("theirs")
    assert found is not None
    assert found.revoked_at is None
    assert chief.post(f"{BASE}/sensors", data={"sensor_id": "x-1", "room": "else-1"}).status_code == 400
    assert campus.as_("facility-manager").post(f"{BASE}/sensors/theirs/revoke").status_code == 403


def test_the_bars_of_the_rest() -> None:
    days = [DayRest(CAMPUS.first, rest, 100) for rest in (0, -8, 4)]
    assert spark(days) == "▁█▅"
    assert spark([]) == ""
