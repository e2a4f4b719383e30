"""Pulling a timetable: rooms, atomicity, and no name anywhere when names are not allowed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from analytics.domain.model import Building, Capacity, Organisation, Room
from analytics.store.sqlite import SqliteStore
from analytics.timetable import TimetableSource, match_rooms, next_pull, pull
from tests.timetable_adapters.conformance import leaks
from tests.timetable_adapters.fake import CANARY, FakeServer, FakeSystem, at, running, status
from tests.timetable_adapters.test_google import Google
from tests.timetable_adapters.test_graph import Graph
from tests.timetable_adapters.test_ical import Feed
from tests.timetable_adapters.test_mytimetable import MyTimetable
from tests.timetable_adapters.test_planon import Planon
from tests.timetable_adapters.test_rest_json import Rest
from tests.timetable_adapters.test_tabular import Table
from tests.timetable_adapters.test_timeedit import TimeEdit
from tests.timetable_adapters.test_webuntis import WebUntis
from tests.timetable_adapters.test_zermelo import Zermelo
from timetable_adapters.base import AdapterError, RoomRef, TemporaryError

SYSTEMS: dict[str, type[FakeSystem]] = {
    "csv": Table,
    "google-calendar": Google,
    "ical": Feed,
    "microsoft-graph": Graph,
    "mytimetable": MyTimetable,
    "planon": Planon,
    "rest": Rest,
    "timeedit": TimeEdit,
    "webuntis": WebUntis,
    "zermelo": Zermelo,
}
NOW = at("2026-03-04 03:00")
ORG = "campus"
BUILDING = Building(ORG, "main", "Main building")


def room(number: str, *aliases: str, name: str = "", building: str = "main") -> Room:
    capacities = (Capacity(date(2020, 1, 1), 60),)
    return Room(ORG, f"{building}-{number}", building, number, name, capacities=capacities, aliases=aliases)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore.open(tmp_path / "store.db", b"k" * 32) as store:
        store.put_organisation(Organisation(ORG, "Campus"))
        store.put_buildings(ORG, [BUILDING])
        aliases = ("{0}", "{0}@campus.example", "{0}@resource.example", "2026!location!{0}")
        store.put_rooms(ORG, [room(n, *(alias.format(n) for alias in aliases)) for n in ("101", "102")])
        yield store


def source_of(kind: str, server: FakeServer, **changes: Any) -> TimetableSource:
    source = TimetableSource(
        org_id=ORG, id="plan", kind=kind, settings=server.system.settings(), look_back_days=2, horizon_days=5
    )
    return replace(source, **changes)


def plan(store: SqliteStore, **options: Any) -> list[Any]:
    return store.bookings(ORG, None, at("2026-01-01 00:00"), at("2027-01-01 00:00"), **options)


@pytest.mark.parametrize("kind", SYSTEMS)
def test_a_second_pull_changes_nothing(store: SqliteStore, kind: str) -> None:
    with running(SYSTEMS[kind]()) as server:
        first = pull(store, source_of(kind, server), NOW, sleep=lambda _: None)
        before = plan(store)
        second = pull(store, source_of(kind, server), NOW + timedelta(hours=1), sleep=lambda _: None)
    assert first.result.new == len(server.system.inside) == len(before)
    assert (second.result.new, second.result.changed, second.result.removed) == (0, 0, 0)
    assert plan(store) == before


@pytest.mark.parametrize("kind", SYSTEMS)
@pytest.mark.privacy
def test_no_byte_of_a_name_is_kept_or_logged_when_names_are_not_allowed(
    store: SqliteStore, kind: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.DEBUG)
    with running(SYSTEMS[kind]()) as server:
        pull(store, source_of(kind, server), NOW, sleep=lambda _: None)
        server.fail(status(500))
        with pytest.raises(AdapterError) as caught:
            pull(store, source_of(kind, server), NOW, sleep=lambda _: None)
    # The file is encrypted, so what stands in it is read through the store's own connection: every row of every table.
    with store.connections.read() as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = [str(row) for table in tables for row in db.execute(f"SELECT * FROM {table}")]
    assert len(rows) > len(server.system.inside)
    assert leaks("\n".join(rows)) == []
    assert leaks(caplog.text + str(caught.value)) == []
    for file in tmp_path.iterdir():
        assert CANARY.encode() not in file.read_bytes()


def test_allowed_names_are_kept_sealed_and_shown_only_when_asked(store: SqliteStore, tmp_path: Path) -> None:
    with running(Graph()) as server:
        pull(store, source_of("microsoft-graph", server, booker_names=True), NOW, sleep=lambda _: None)
    assert {booking.booked_by for booking in plan(store)} == {None}
    assert {booking.booked_by for booking in plan(store, reveal_names=True)} == {CANARY}
    with store.connections.read() as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        names = [str(row) for t in tables for row in db.execute(f"SELECT * FROM {t}") if CANARY in str(row)]
    assert names == []


@pytest.mark.parametrize("kind", SYSTEMS)
def test_a_pull_that_dies_midway_leaves_the_plan_as_it_was(store: SqliteStore, kind: str) -> None:
    with running(SYSTEMS[kind]()) as server:
        source = source_of(kind, server)
        pull(store, source, NOW, sleep=lambda _: None)
        needed = sum(not server.system.is_login(request) for request in server.requests)
        before = plan(store)
        server.system.events = []
        for after in range(needed):
            server.fail(status(500), after=after)
            try:
                pull(store, source, NOW, sleep=lambda _: None)
            except AdapterError:
                assert plan(store) == before
            else:
                break  # without bookings a pull needs fewer requests
        assert after > 0 or needed == 1


def test_a_booking_that_vanished_is_gone_from_the_plan_and_stays_in_the_history(store: SqliteStore) -> None:
    with running(MyTimetable()) as server:
        source = source_of("mytimetable", server)
        pull(store, source, NOW, sleep=lambda _: None)
        server.system.events = [event for event in server.system.events if event.id != "e2"]
        report = pull(store, source, NOW + timedelta(hours=1), sleep=lambda _: None)
    assert report.result.removed == 1
    assert len(plan(store)) == 2
    assert len(plan(store, as_of=NOW + timedelta(minutes=1))) == 3


def test_rooms_that_nobody_has_are_reported_and_their_bookings_never_asked_for(store: SqliteStore) -> None:
    store.put_rooms(ORG, [replace(room("102"), number="999", aliases=())])
    with running(Graph()) as server:
        report = pull(store, source_of("microsoft-graph", server), NOW, sleep=lambda _: None)
        asked = [request.path for request in server.requests]
    assert [ref.ref for ref in report.match.unmatched] == ["102@campus.example"]
    assert report.match.not_found == ("main-102",)
    assert not any("102" in path for path in asked)


@pytest.mark.parametrize(
    ("ref", "name", "building", "expected"),
    [
        ("1.02-A", "", "", "main-1.02 a"),
        ("x17", "Zaal 1.12", "Main building", "main-1.12"),
        ("x18", "zaal 1.12", "", None),  # two buildings have one
        ("x19", "Auditorium", "", "main-au"),
        ("11.2", "", "", None),  # not 1.12
        ("Main building 1.12", "", "", "main-1.12"),
        ("decided", "", "", "west-1.12"),
    ],
)
def test_matching_of_rooms(ref: str, name: str, building: str, expected: str | None) -> None:
    rooms = [
        room("1.02 a"),
        room("1.12", name="Zaal 1.12"),
        room("1.12", name="Zaal 1.12", building="west"),
        room("au", name="Auditorium"),
    ]
    buildings = [BUILDING, Building(ORG, "west", "West")]
    match = match_rooms([RoomRef(ref=ref, name=name, building=building)], rooms, buildings, {"decided": "west-1.12"})
    assert match.rooms.get(ref) == expected


def test_pulls_are_due_at_night_and_soon_after_a_failure() -> None:
    source = TimetableSource(org_id=ORG, id="plan", kind="csv", settings={})
    zone = ZoneInfo("Europe/Amsterdam")
    due = next_pull(source, NOW, zone).astimezone(zone)
    assert 2 <= due.hour < 5
    assert NOW < due <= NOW + timedelta(hours=24)
    assert next_pull(source, NOW, zone, TemporaryError("busy", 900)) == NOW + timedelta(seconds=900)
    assert next_pull(source, None, zone) < NOW
