"""The page Now: states of rooms from counts and bookings of a morning, and what a reader sees of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from fastapi import FastAPI

from analytics.accounts.rights import Right, Role
from analytics.assemble import Site as Master
from analytics.domain.model import (
    COVERAGE_SCALE,
    HEALTH_BITS,
    NOT_OBSERVED,
    SLOT_DTYPE,
    Building,
    Capacity,
    Organisation,
    PlannedBooking,
    Room,
    Sensor,
    Watch,
    WatchKind,
)  # fmt: skip
from analytics.store.sqlite import SqliteStore
from analytics.web.portal.core import Portal
from analytics.web.portal.mount import mount_portal
from analytics.web.portal.pages.figures_cache import FreshCache
from analytics.web.portal.pages.figures_live import LiveView, State, live_view
from analytics.web.problems import add_problem_handlers
from tests.analytics.portal_parts import MASTER, ORG, PASSWORD, Site

ZONE = ZoneInfo("Europe/Amsterdam")
DAY = date(2026, 9, 30)


def at(clock: str) -> datetime:
    hour, minute = map(int, clock.split(":"))
    return datetime(DAY.year, DAY.month, DAY.day, hour, minute, tzinfo=ZONE)


NOW = at("10:30")
Step = tuple[str, str, int]
"""From, until, people."""


def present(steps: Sequence[Step], health: int = 1) -> np.ndarray:
    """Messages of a sensor at the ceiling, one a minute."""
    rows = []
    for begin, end, people in steps:
        moment = at(begin)
        while moment < at(end):
            rows.append(
                (int(moment.timestamp()), 60, people, people, NOT_OBSERVED, NOT_OBSERVED, COVERAGE_SCALE, health)
            )
            moment += timedelta(minutes=1)
    return np.array(rows, dtype=SLOT_DTYPE)


def passed(until: str, crossings: dict[str, tuple[int, int]]) -> np.ndarray:
    """Messages of a door counter from 07:00."""
    rows = []
    moment = at("07:00")
    while moment < at(until):
        into, out = crossings.get(f"{moment:%H:%M}", (0, 0))
        rows.append((int(moment.timestamp()), 60, NOT_OBSERVED, NOT_OBSERVED, into, out, COVERAGE_SCALE, 1))
        moment += timedelta(minutes=1)
    return np.array(rows, dtype=SLOT_DTYPE)


ALL = ("07:00", "10:30", 0)
# room: (messages, bookings, state, people)
CASES: dict[str, tuple[list[Step], list[tuple[str, str]], State, int | None]] = {
    "empty-all-hour": ([ALL], [("09:00", "11:00")], State.EMPTY_BOOKED, 0),
    "left-early": ([("07:00", "10:00", 12), ("10:00", "10:30", 0)], [("09:00", "11:00")], State.EMPTY_BOOKED, 0),
    "pause": ([("07:00", "10:24", 12), ("10:24", "10:30", 0)], [("09:00", "11:00")], State.WAITING, 0),
    "just-begun": ([ALL], [("10:25", "12:00")], State.WAITING, 0),
    "held": ([("07:00", "10:30", 25)], [("09:00", "11:00")], State.IN_USE, 25),
    "few": ([("07:00", "10:30", 3)], [("09:00", "11:00")], State.IN_USE, 3),
    "squatters": ([("07:00", "10:30", 2)], [("13:00", "14:00")], State.IN_USE_UNBOOKED, 2),
    "free": ([ALL], [("13:00", "14:00")], State.FREE, 0),
    "free-all-day": ([ALL], [], State.FREE, 0),
    "over": ([ALL], [("08:00", "10:30")], State.FREE, 0),
    "fell-silent": ([("07:00", "10:15", 8)], [("09:00", "11:00")], State.UNKNOWN, None),
    "hiccup": ([("07:00", "10:25", 8)], [("09:00", "11:00")], State.IN_USE, 8),
    "never-spoke": ([], [("09:00", "11:00")], State.UNKNOWN, None),
    "crowded": ([("07:00", "10:30", 60)], [("09:00", "11:00")], State.IN_USE, 60),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder: Path = tmp_path_factory.mktemp("now")
    with SqliteStore.open(folder / "now.db", MASTER) as store:
        store.put_organisation(Organisation(ORG, "Campus"))
        store.put_buildings(ORG, [Building(ORG, "main", "Main")])
        names = [*CASES, "bare", "doors", "blocked", "hall", "hall-a", "hall-b"]
        parts = {"hall": ("hall-a", "hall-b")}
        store.put_rooms(
            ORG,
            [Room(ORG, n, "main", n, "", (Capacity(date(2026, 1, 1), 40),), parts=parts.get(n, ())) for n in names],
        )
        bookings = []
        slots = {}
        for name, (steps, spans, _, _) in CASES.items():
            store.add_sensor(Sensor(ORG, f"s-{name}", "", (Watch(name, WatchKind.ROOM),)))
            slots[f"s-{name}"] = present(steps)
            bookings += [_booking(name, begin, end) for begin, end in spans]
        store.add_sensor(Sensor(ORG, "s-doors", "", (Watch("doors", WatchKind.DOOR),)))
        slots["s-doors"] = passed("10:30", {"08:50": (20, 0), "09:02": (4, 0), "10:10": (0, 9)})
        store.add_sensor(Sensor(ORG, "s-blocked", "", (Watch("blocked", WatchKind.ROOM),)))
        slots["s-blocked"] = present([("07:00", "10:30", 0)], HEALTH_BITS["blocked"])
        for part in ("hall-a", "hall-b"):
            store.add_sensor(Sensor(ORG, f"s-{part}", "", (Watch(part, WatchKind.ROOM),)))
            slots[f"s-{part}"] = present([("07:00", "10:30", 10 if part == "hall-a" else 0)])
        bookings += [_booking("doors", "09:00", "11:00"), _booking("hall", "09:00", "11:00")]
        store.ingest_slots(ORG, slots, NOW)
        store.replace_bookings(ORG, "test", (at("00:00"), at("23:00")), bookings, at("00:00") - timedelta(days=1))
        app = FastAPI(docs_url=None, redoc_url=None)
        site = Site(store, None, app, NOW)  # type: ignore[arg-type]
        portal = site.portal = Portal.build(store, MASTER, clock=lambda: site.now)
        portal.people.accept(portal.people.first_link(ORG).secret, PASSWORD, email="chief@campus.example", name="Chief")
        add_problem_handlers(app)
        mount_portal(app, portal)
        app.state.figure_cache = FreshCache(background=False)
        yield site


def _booking(room: str, begin: str, end: str) -> PlannedBooking:
    return PlannedBooking(
        source="test", source_id=f"{room}-{begin}", start=at(begin), end=at(end), room_id=room, title=f"Event in {room}"
    )


@pytest.fixture(scope="module")
def view(site: Site) -> LiveView:
    return live_view(site.store, Master.load(site.store, ORG), NOW)


@pytest.mark.parametrize("name", CASES)
def test_a_room_is_what_counts_and_plan_say(view: LiveView, name: str) -> None:
    _, _, state, people = CASES[name]
    room = next(r for r in view.rooms if r.room.id == name)
    assert (room.state, room.people) == (state, people)


def test_until_when_and_since_when(view: LiveView) -> None:
    rooms = {r.room.id: r for r in view.rooms}
    assert rooms["left-early"].empty_since == at("10:00")
    assert rooms["left-early"].until == at("11:00")
    assert rooms["free"].until == at("13:00")
    assert rooms["free-all-day"].until is None
    assert rooms["fell-silent"].measured_at == at("10:15")
    assert rooms["fell-silent"].silent == ("s-fell-silent",)
    assert rooms["never-spoke"].measured_at is None
    assert rooms["hiccup"].silent == ()


def test_doors_are_counted_from_the_night_on(view: LiveView) -> None:
    room = next(r for r in view.rooms if r.room.id == "doors")
    assert (room.people, room.state) == (15, State.IN_USE)
    assert room.error > 0


def test_a_blind_sensor_knows_nothing(view: LiveView) -> None:
    room = next(r for r in view.rooms if r.room.id == "blocked")
    assert (room.people, room.state, room.health) == (None, State.UNKNOWN, ("blocked",))


def test_a_combined_room_is_the_sum_of_its_parts_and_books_them(view: LiveView) -> None:
    rooms = {r.room.id: r for r in view.rooms}
    assert rooms["hall"].people == 10
    assert rooms["hall-a"].state is State.IN_USE
    assert rooms["hall-b"].state is State.EMPTY_BOOKED


def test_at_night_a_silent_room_is_closed_and_not_faulty(site: Site) -> None:
    night = live_view(site.store, Master.load(site.store, ORG), at("23:30"))
    assert {r.state for r in night.rooms} == {State.CLOSED}
    assert all(r.people is None and not r.silent for r in night.rooms)


def test_the_page_shows_dashes_for_the_unknown_and_names_those_who_may(site: Site) -> None:
    chief, viewer = site.person(Role.CONTROLLER), site.person(Role.VIEWER)
    text = chief.get(f"/o/{ORG}/now").text
    tile = _tile(text, "fell-silent")
    assert "Not known since 10:15" in tile and "<b>0</b>" not in tile
    assert "No sensor" in _tile(text, "bare")
    assert "150" in _tile(text, "crowded")  # 60 people on 40 seats: shown as such
    assert "empty for 90 min" in _tile(text, "empty-all-hour")
    assert "Event in held" in text
    assert "Event in" not in viewer.get(f"/o/{ORG}/now").text
    board = chief.get(f"/o/{ORG}/now/board")
    assert board.status_code == 200 and "<html" not in board.text
    assert 'id="count-empty">3<' in board.text


def test_few_people_of_a_booking_are_withheld_and_no_total_gives_them_away(site: Site) -> None:
    planner = site.person(Role.TIMETABLER)
    for reader in (site.person(Role.VIEWER), site.person(Role.TIMETABLER, without=frozenset({Right.SEE_SMALL_COUNTS}))):
        text = reader.get(f"/o/{ORG}/now").text
        assert "fewer than 5" in _tile(text, "few")
        assert "<meter" not in _tile(text, "few")
        assert "<b>2</b>" in _tile(text, "squatters")  # not booked: nobody's name stands beside it
        assert _total(text) == _total(planner.get(f"/o/{ORG}/now").text) - 3


def test_the_fragment_asks_for_a_login_as_data_and_not_as_a_page(site: Site) -> None:
    client = site.person(Role.CONTROLLER)
    anonymous = type(client)(site.app, follow_redirects=False)
    answer = anonymous.get(f"/o/{ORG}/now/board", headers={"accept": "application/json"})
    assert answer.status_code == 401


def _tile(text: str, room: str) -> str:
    found = re.search(rf'<li class="room [\w]+">\s*<a href="/o/{ORG}/rooms/{room}".*?</li>', text, re.DOTALL)
    assert found is not None, room
    return found.group()


def _total(text: str) -> int:
    found = re.search(r"<dt>People</dt><dd>(\d+)", text)
    assert found is not None
    return int(found.group(1))
