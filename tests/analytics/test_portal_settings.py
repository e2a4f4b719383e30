"""The pages of the settings: rooms, hours, periods, timetables, keeping and erasing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from analytics.domain.model import Capacity, MeasuringHours, Span, StaleKind
from analytics.master import Policies
from analytics.retention import RetentionPolicy
from analytics.sources import Sources
from analytics.store.sqlite import SqliteStore
from analytics.web.portal.pages.settings_calendar import spans_of, spans_text
from analytics.web.portal.source_form import form_fields, settings_from
from tests.analytics.data_parts import ORG, World, world
from tests.timetable_adapters.fake import CANARY, SECRET, running, status
from tests.timetable_adapters.test_graph import Graph
from tests.timetable_adapters.test_mytimetable import MyTimetable
from tests.timetable_adapters.test_rest_json import Rest
from timetable_adapters.discovery import adapters, load

BASE = f"/o/{ORG}/settings"
NOW = datetime(2026, 3, 4, 3, 0, tzinfo=UTC)
ROOMS = b"\xef\xbb\xbfbuilding;number;name;capacity\r\nMain;101;Lecture hall A;60\r\nMain;102;Seminar room 2;24\r\n"


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("world"), campus=None, now=NOW) as made:
        yield made


@pytest.fixture
def campus(empty: World) -> World:
    upload(empty, ROOMS)
    for source in Sources(empty.portal.keep).of(ORG):
        Sources(empty.portal.keep).remove(empty.store, ORG, source.id, NOW)
    return empty


def upload(campus: World, content: bytes, role: str = "controller", *, write: str = "1", **membership: Any) -> Any:
    return campus.as_(role, **membership).post(
        f"{BASE}/rooms/import", files={"file": ("rooms.csv", content, "text/csv")}, data={"write": write}
    )


# -- rooms


def test_rooms_from_a_file_are_checked_first_and_written_whole(empty: World) -> None:
    checked = upload(empty, ROOMS, write="")
    assert checked.status_code == 200
    assert "this was a check" in checked.text
    assert empty.store.rooms(ORG) == []
    faulty = upload(empty, b"building;number;capacity\nMain;101;many\n=cmd();<script>;4\n")
    assert faulty.status_code == 400
    assert "line 2" in faulty.text
    assert "<script>;" not in faulty.text
    assert empty.store.rooms(ORG) == []
    written = upload(empty, ROOMS)
    assert "2 new, 0 changed" in written.text
    assert [room.number for room in empty.store.rooms(ORG)] == ["101", "102"]
    assert "0 new, 0 changed, 2 the same" in upload(empty, ROOMS).text
    assert upload(empty, b"\xff\xfe\x00").status_code == 400
    assert upload(empty, b"x" * (11 << 20)).status_code == 413


def test_a_room_by_hand_and_its_page(campus: World) -> None:
    chief = campus.as_("controller")
    answer = chief.post(f"{BASE}/rooms", data={"building": "Main", "number": '1;0"3', "capacity": "12"})
    assert answer.status_code == 303
    assert chief.post(f"{BASE}/rooms", data={"building": "Main", "number": '1;0"3'}).status_code == 400
    assert chief.post(f"{BASE}/rooms", data={"building": "", "number": "7"}).status_code == 400
    room = next(room for room in campus.store.rooms(ORG) if room.number == '1;0"3')
    assert chief.get(f"{BASE}/rooms/{room.id}").status_code == 200
    chief.post(
        f"{BASE}/rooms/{room.id}", data={"number": "103\0", "name": "<b>Ha\x07ll</b>", "aliases": "A 103\r\nx\r\n"}
    )
    room = campus.store.room(ORG, room.id)
    assert (room.number, room.aliases) == ("103", ("A 103", "x"))
    text = chief.get(BASE).text
    assert "&lt;b&gt;Hall" in text
    assert "<b>Hall" not in text
    assert chief.get(f"{BASE}?q=hall+103").text.count('<th scope="row">') == 1


def test_other_seats_from_a_day_on_are_computed_again_from_it(campus: World) -> None:
    chief = campus.as_("controller")
    room = next(room for room in campus.store.rooms(ORG) if room.number == "101")
    campus.store.clear_stale(ORG, campus.store.stale_days(ORG))
    answer = chief.post(f"{BASE}/rooms/{room.id}/capacity", data={"seats": "80", "valid_from": "2026-03-01"})
    assert answer.status_code == 303
    changed = campus.store.room(ORG, room.id)
    assert changed.capacity_on(date(2026, 2, 28)) == 60
    assert changed.capacity_on(date(2026, 3, 1)) == 80
    stale = campus.store.stale_days(ORG)
    assert {entry.kind for entry in stale} == {StaleKind.ROOM}
    assert min(entry.day for entry in stale) == date(2026, 3, 1)
    chief.post(f"{BASE}/rooms/{room.id}/capacity", data={"seats": "", "valid_from": "2026-03-01"})
    assert Capacity(date(2026, 3, 1), None) in campus.store.room(ORG, room.id).capacities
    for seats, day in (("many", "2026-03-01"), ("-3", "2026-03-01"), ("3", "soon"), ("٣", "2026-03-01")):
        wrong = chief.post(f"{BASE}/rooms/{room.id}/capacity", data={"seats": seats, "valid_from": day})
        assert wrong.status_code == 400


def test_rooms_of_other_buildings_and_organisations_are_out_of_reach(campus: World) -> None:
    upload(campus, b"building;number\nWest;1\n")
    only = frozenset({"west"})
    room = next(room for room in campus.store.rooms(ORG) if room.number == "101")
    west = campus.as_("facility-manager", buildings=only)
    assert west.get(f"{BASE}/rooms/{room.id}").status_code == 404
    assert west.post(f"{BASE}/rooms/{room.id}", data={"number": "9"}).status_code == 404
    assert west.post(f"{BASE}/hours/main", data={"day0": ""}).status_code == 404
    assert west.post(f"{BASE}/periods", data={}).status_code == 403
    assert upload(campus, ROOMS.replace(b"60", b"61"), "facility-manager", buildings=only).status_code == 403
    assert "101" not in west.get(BASE).text
    assert campus.as_("controller").get(f"{BASE}/rooms/else-1").status_code == 404
    assert campus.as_("controller").get("/o/default/settings").status_code == 404


# -- hours, closures, periods


@pytest.mark.parametrize("text", ["", "07:00-22:00", "07:00-12:00, 13:30-24:00"])
def test_hours_read_as_they_are_written(text: str) -> None:
    assert spans_text(spans_of(text)) == text


@pytest.mark.parametrize("text", ["7-22", "22:00-07:00", "07:00-25:00", "07:60-08:00", "always", "07:00-07:00"])
def test_hours_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=text.split("-", maxsplit=1)[0]):
        spans_of(text)


def test_measuring_hours_and_closed_days(campus: World) -> None:
    chief = campus.as_("controller")
    week = {f"day{i}": "08:00-18:00" if i < 4 else "" for i in range(7)}
    assert chief.post(f"{BASE}/hours/main", data=week).status_code == 303
    (main,) = (b for b in campus.store.buildings(ORG) if b.id == "main")
    assert main.measuring_hours == MeasuringHours(((Span(480, 1080),),) * 4 + ((),) * 3)
    overlapping = {**week, "day0": "08:00-12:00, 11:00-13:00"}
    assert chief.post(f"{BASE}/hours/main", data=overlapping).status_code == 400
    campus.store.clear_stale(ORG, campus.store.stale_days(ORG))
    closed = {"first": "2026-02-16", "last": "2026-02-20", "name": "Spring", "kind": "holiday"}
    assert chief.post(f"{BASE}/hours/all/close", data=closed).status_code == 303
    assert {b.closures[0].name for b in campus.store.buildings(ORG)} == {"Spring"}
    assert {entry.day for entry in campus.store.stale_days(ORG)} == {date(2026, 2, 16 + i) for i in range(5)}
    assert "Spring" in chief.get(f"{BASE}/hours").text
    for last in ("2026-02-01", "9999-12-31", "never"):
        assert chief.post(f"{BASE}/hours/all/close", data={**closed, "last": last}).status_code == 400
    chief.post(f"{BASE}/hours/main/open", data={"start": "2026-02-16", "end": "2026-02-21", "name": "Spring"})
    assert {len(b.closures) for b in campus.store.buildings(ORG) if b.id == "main"} == {0}


def test_teaching_weeks_are_made_week_by_week(campus: World) -> None:
    chief = campus.as_("controller")
    weeks = {"name": "Teaching week", "first": "2026-02-02", "last": "2026-02-20", "kind": "teaching", "weekly": "1"}
    assert chief.post(f"{BASE}/periods", data=weeks).status_code == 303
    periods = campus.store.organisation(ORG).periods
    assert [(p.name, p.start.day, p.end.day) for p in periods] == [
        ("Teaching week 1", 2, 9), ("Teaching week 2", 9, 16), ("Teaching week 3", 16, 21),
    ]  # fmt: skip
    assert chief.post(f"{BASE}/periods", data=weeks).status_code == 400
    assert chief.post(f"{BASE}/periods", data={**weeks, "last": "2026-01-01"}).status_code == 400
    names = [p.name for p in periods]
    assert chief.post(f"{BASE}/periods/remove", data={"names": names}).status_code == 303
    assert campus.store.organisation(ORG).periods == ()
    zone = {"name": "Campus", "time_zone": "../../etc/passwd"}
    assert chief.post(f"{BASE}/organisation", data=zone).status_code == 400


# -- timetables


def source_form(kind: str, system: Any, **changes: str) -> dict[str, str]:
    fields: dict[str, str] = {}

    def add(values: dict[str, Any], path: str) -> None:
        for name, value in values.items():
            if isinstance(value, dict) and name in ("fields", "paging"):
                add(value, f"{path}{name}.")
            elif isinstance(value, dict):
                fields[f"s.{path}{name}"] = "\r\n".join(f"{k} = {v}" for k, v in value.items())
            elif isinstance(value, list):
                fields[f"s.{path}{name}"] = "\r\n".join(map(str, value))
            else:
                fields[f"s.{path}{name}"] = str(value)

    add(system.settings(), "")
    return {"kind": kind, "source_id": "plan", "titles": "1", "enabled": "1", **fields, **changes}


@pytest.mark.parametrize(("kind", "system"), [("mytimetable", MyTimetable), ("rest", Rest)])
def test_a_timetable_is_added_tested_and_pulled(campus: World, kind: str, system: type[Any]) -> None:
    chief = campus.as_("controller")
    campus.store.put_organisation(campus.store.organisation(ORG))
    with running(system()) as server:
        only_one(campus)
        answer = chief.post(f"{BASE}/sources/new", data=source_form(kind, server.system))
        assert answer.status_code == 303, answer.text
        page = chief.get(f"{BASE}/sources/plan").text
        assert SECRET not in page
        assert "Not pulled yet" in page
        assert "shows 2 rooms" in chief.post(f"{BASE}/sources/plan/test").text
        if kind == "mytimetable":
            aliases = {"101": "2026!location!101", "102": "2026!location!102"}
            room_map = "\n".join(f"{a} = main-{n}" for n, a in aliases.items())
            form = {**source_form(kind, server.system, **{"s.token": ""}), "room_map": room_map}
            assert chief.post(f"{BASE}/sources/plan", data=form).status_code == 303
        assert chief.post(f"{BASE}/sources/plan/pull").status_code == 303
        page = chief.get(f"{BASE}/sources/plan").text
        assert "bookings in 2 rooms" in page
        server.fail(status(500))
        chief.post(f"{BASE}/sources/plan/pull")
        page = chief.get(f"{BASE}/sources/plan").text
        assert "It failed at" in page
        assert "The plan is as it was" in page
        assert "failed" in chief.get(f"{BASE}/sources").text
    assert campus.store.bookings(ORG, None, NOW - timedelta(days=7), NOW + timedelta(days=60))
    assert chief.post(f"{BASE}/sources/plan/remove").status_code == 303
    assert chief.get(f"{BASE}/sources/plan").status_code == 404
    assert {"source.add", "source.pull", "source.remove"} <= set(campus.actions())


def only_one(campus: World) -> None:
    """The second organisation would keep sources off loopback, where the stand-ins are."""
    campus.store.organisations = lambda: [campus.store.organisation(ORG)]  # type: ignore[method-assign]


def test_what_matched_nothing_is_shown(campus: World) -> None:
    chief = campus.as_("controller")
    only_one(campus)
    with running(Rest()) as server:
        chief.post(f"{BASE}/rooms/main-102", data={"number": "999", "name": "Else"})
        chief.post(f"{BASE}/sources/new", data=source_form("rest", server.system))
        chief.post(f"{BASE}/sources/plan/pull")
        page = chief.get(f"{BASE}/sources/plan").text
        assert "Their rooms that match none of ours: 1" in page
        form = {**source_form("rest", server.system), "room_map": "102 = main-102"}
        assert chief.post(f"{BASE}/sources/plan", data=form).status_code == 303
        chief.post(f"{BASE}/sources/plan/pull")
        assert "Their rooms that match none of ours: 0" in chief.get(f"{BASE}/sources/plan").text
        wrong = {**source_form("rest", server.system), "room_map": "102 = nowhere"}
        assert chief.post(f"{BASE}/sources/plan", data=wrong).status_code == 400


def test_a_token_is_never_sent_to_another_address(campus: World) -> None:
    chief = campus.as_("controller")
    only_one(campus)
    with running(MyTimetable()) as server:
        chief.post(f"{BASE}/sources/new", data=source_form("mytimetable", server.system))
        moved = source_form("mytimetable", server.system, **{"s.token": "", "s.base_url": "https://evil.example"})
        answer = chief.post(f"{BASE}/sources/plan", data=moved)
    assert answer.status_code == 400
    assert "give the token" in answer.text
    assert Sources(campus.portal.keep).get(ORG, "plan").settings["base_url"] == server.system.url


def test_sources_reach_neither_files_nor_the_services_own_network(campus: World) -> None:
    chief = campus.as_("controller")
    vars(campus.store).pop("organisations", None)
    csv_file = {"kind": "csv", "source_id": "plan", "s.location": "/etc/passwd"}
    assert "only addresses" in chief.post(f"{BASE}/sources/new", data=csv_file).text
    for host in ("http://127.0.0.1:8400", "https://169.254.169.254", "https://10.0.0.1", "https://localhost"):
        inside = {"kind": "mytimetable", "source_id": "plan", "s.base_url": host, "s.token": "x"}
        assert "own network" in chief.post(f"{BASE}/sources/new", data=inside).text
    assert Sources(campus.portal.keep).of(ORG) == []


def test_wrong_settings_are_named_without_their_values(campus: World) -> None:
    chief = campus.as_("controller")
    wrong = {"kind": "mytimetable", "source_id": "plan", "s.base_url": "https://x.example", "s.time_zone": "Mars/Dust"}
    answer = chief.post(f"{BASE}/sources/new", data={**wrong, "s.token": SECRET})
    assert answer.status_code == 400
    assert "time_zone" in answer.text
    assert SECRET not in answer.text
    for source_id in ("Plan", "", "../x", "x" * 50):
        bad = {**wrong, "s.time_zone": "", "s.token": SECRET, "source_id": source_id}
        assert chief.post(f"{BASE}/sources/new", data=bad).status_code == 400
    assert chief.get(f"{BASE}/sources/new?kind=nothing").status_code == 404


def test_sources_are_for_those_who_may(campus: World) -> None:
    manager = campus.as_("facility-manager")
    for path in ("/sources", "/sources/new?kind=csv", "/sources/plan", "/retention"):
        assert manager.get(BASE + path).status_code == 403
    for path in ("/sources/new", "/sources/plan", "/sources/plan/pull", "/sources/plan/test", "/retention"):
        assert manager.post(BASE + path).status_code == 403
    assert campus.as_("operator").get(f"{BASE}/sources").status_code == 200


@pytest.mark.privacy
def test_no_name_of_a_booker_in_pages_files_or_log(campus: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    chief = campus.as_("controller")
    only_one(campus)
    aliases = "".join(f"Main;{n};{n}@campus.example\n" for n in ("101", "102"))
    upload(campus, f"building;number;aliases\n{aliases}".encode())
    with running(Graph()) as server:
        chief.post(f"{BASE}/sources/new", data=source_form("microsoft-graph", server.system, booker_names="1"))
        chief.post(f"{BASE}/sources/plan/pull")
        server.fail(status(500))
        chief.post(f"{BASE}/sources/plan/pull")
    texts = [chief.get(f"{BASE}/sources/plan").text, chief.get(f"/o/{ORG}/audit").text, caplog.text]
    for what in ("what=bookings", "what=rooms&unit=hour", "what=research"):
        for kind in ("csv", "json", "parquet"):
            query = f"{what}&from=2026-03-01&to=2026-03-09&format={kind}"
            answer = chief.get(f"/o/{ORG}/data/export?{query}")
            assert answer.status_code == 200
            texts.append(answer.content.decode("latin-1"))
    window = (NOW - timedelta(days=9), NOW + timedelta(days=9))
    assert CANARY in {b.booked_by for b in campus.store.bookings(ORG, None, *window, reveal_names=True)}
    family = CANARY.split()[-1].casefold()
    assert not [text for text in texts if family in text.casefold()]


# -- the form of an adapter


@pytest.mark.parametrize("kind", sorted(adapters()))
def test_a_form_of_every_adapter_gives_its_settings_back(kind: str) -> None:
    model = load(kind).Settings
    fields = form_fields(model)
    assert fields
    filled = {f.name: f.value or {"pairs": "101 = https://x.example/1", "secret": "x", "number": "7"}.get(f.kind, "a.b")
              for f in fields if f.required or (f.value and f.kind != "check")}  # fmt: skip
    values = settings_from(model, filled)
    present = model.model_validate({**values, **({"base_url": "https://x.example"} if "base_url" in values else {})})
    assert present
    again = form_fields(model, values)
    assert not [f.name for f in again if f.secret and f.value]
    kept = settings_from(model, {f.name: f.value for f in again}, values)
    for f in fields:
        if f.secret and f.required:
            assert kept[f.name] == values[f.name]


# -- retention


def test_retention_is_decided_per_class(campus: World) -> None:
    chief = campus.as_("controller")
    days = {"booker_name_days": "14", "count_days": "", "rollup_days": "100"}
    assert chief.post(f"{BASE}/retention", data=days).status_code == 303
    policy = Policies(campus.portal.keep).retention(ORG)
    assert (policy.booker_name_days, policy.count_days, policy.rollup_days) == (14, None, 100)
    assert Policies(campus.portal.keep).retention("default") == RetentionPolicy()
    for wrong in ("0", "-1", "soon", "1.5", "99999999"):
        assert chief.post(f"{BASE}/retention", data={"count_days": wrong}).status_code == 400
    assert campus.actions()[0] == "retention.change"
    assert "A person asks" in chief.get(f"{BASE}/retention").text


def test_the_embedded_store_is_what_these_tests_run_on(campus: World) -> None:
    assert isinstance(campus.portal.store, SqliteStore)
