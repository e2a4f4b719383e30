"""Pages with figures: what they show, to whom, and that they say the same as the figures they are made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from fastapi.testclient import TestClient

from analytics.accounts.rights import Right, Role
from analytics.domain.model import Building, Capacity, PlannedBooking, Room
from analytics.domain.recurring import Verdict
from analytics.domain.time import day_bounds, moment_of
from analytics.figures import By, Scope, booking_rows, series_of, table
from analytics.web.portal.language import Language
from analytics.web.portal.pages.figures_data import FigureData
from analytics.web.portal.pages.figures_filter import Filter
from analytics.web.portal.pages.figures_series import find
from analytics.web.portal.visit import Visit
from tests.analytics.portal_parts import FIRST, NOW, ORG, Site, simulated_site

PATHS = (
    "now", "now?wall=1", "now/board", "overview", "rooms", "rooms/sim-0000", "bookings", "bookings?show=over_capacity",
    "bookings?show=too_large", "bookings?show=too_small", "bookings?show=never_held", "compare",
    "compare?a_known=2026-09-01",
)  # fmt: skip
DUTCH = Language("nl", ZoneInfo("Europe/Amsterdam"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with simulated_site(tmp_path_factory.mktemp("figures")) as site:
        yield site


@pytest.fixture(scope="module")
def chief(site: Site) -> TestClient:
    return site.person(Role.CONTROLLER)


def get(client: TestClient, path: str, org: str = ORG) -> str:
    answer = client.get(f"/o/{org}/{path}")
    assert answer.status_code == 200, (path, answer.status_code, answer.text[:500])
    return answer.text


def visit_of(site: Site, role: Role = Role.CONTROLLER, buildings: tuple[Building, ...] | None = None) -> Visit:
    user = site.chief(ORG)
    membership = user.membership(ORG)
    assert membership is not None
    seen = buildings if buildings is not None else tuple(site.store.buildings(ORG))
    session: Any = None
    return Visit(user, session, site.store.organisation(ORG), membership, seen, Language("en", DUTCH.zone))


def data_of(site: Site) -> FigureData:
    return FigureData(site.portal.store, site.app.state.figure_cache, visit_of(site), lambda: site.now)


@pytest.mark.parametrize("language", ["nl", "en"])
def test_every_page_answers_in_both_languages_and_says_that_it_is_simulated(site: Site, language: str) -> None:
    client = site.person(Role.CONTROLLER, language=language)
    for path in PATHS:
        text = get(client, path)
        if path == "now/board":
            continue
        assert f'<html lang="{language}">' in text
        assert ("Gesimuleerde gegevens" if language == "nl" else "Simulated data") in text
        assert "NaN" not in text and ">nan" not in text and ">None<" not in text


@pytest.mark.parametrize("org", ["empty", "other"])
def test_an_organisation_without_data_is_told_what_to_do(site: Site, org: str) -> None:
    client = site.person(Role.CONTROLLER, org=org)
    for path in ("now", "overview", "rooms", "bookings", "bookings?show=too_large", "compare"):
        text = get(client, path, org)
        if path in ("now", "overview", "rooms") and org == "empty":
            assert f"/o/{org}/settings" in text, path
    if org == "other":
        assert "Nothing was measured" in get(client, "overview", org)
        assert "No sensor" in get(client, "now", org)
        get(client, "rooms/far", org)


def test_the_overview_says_what_the_figures_say(site: Site, chief: TestClient) -> None:
    scope = Scope(ORG, FIRST, FIRST + timedelta(weeks=3))
    expected = table(site.store, scope, By.ALL).total
    choice = Filter(scope.start, scope.end)
    found = data_of(site).sums(choice).total()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, nan_ok=True), name
    text = get(chief, f"overview?{choice.query()}")
    t = Language("en", DUTCH.zone)
    for name in ("unused_booked", "no_show_rate", "frequency", "planned_frequency", "fill", "coverage"):
        assert t.percent(expected[name]) in text, name
    by_room = table(site.store, scope, By.ROOM)
    sums = data_of(site).sums(choice)
    assert [r.id for r in sorted(sums.rooms, key=lambda r: r.id)] == sorted(by_room.labels)
    figures = dict(zip((r.id for r in sums.rooms), sums.by_room()["hours_lost"].tolist(), strict=True))
    for label, value in zip(by_room.labels, by_room.figures["hours_lost"].tolist(), strict=True):
        assert figures[label] == pytest.approx(value)


def test_a_page_of_one_room_agrees_with_the_sums_of_all(site: Site) -> None:
    data = data_of(site)
    choice = Filter(FIRST, FIRST + timedelta(weeks=3), without=(FIRST,), weekdays=(0, 2))
    for room in data.rooms:
        one, all_rooms = data.room_sums(choice, room), data.sums(choice, [room])
        assert one.days == all_rooms.days
        assert one.total() == pytest.approx(all_rooms.total(), nan_ok=True)


def test_days_left_out_weekdays_and_periods_narrow_the_figures(site: Site) -> None:
    data = data_of(site)
    whole = Filter(FIRST, FIRST + timedelta(weeks=2))
    hours = data.sums(whole).total()["open_hours"]
    rooms = len(data.sums(whole).rooms)
    assert hours == rooms * 150
    assert data.sums(Filter(whole.start, whole.end, without=(FIRST,))).total()["open_hours"] == hours - rooms * 15
    assert data.sums(Filter(whole.start, whole.end, weekdays=(1,))).total()["open_hours"] == rooms * 30
    assert data.sums(Filter(whole.start, whole.end, periods=("Teaching week 2",))).total()["open_hours"] == rooms * 75
    ahead = Filter(NOW.date() + timedelta(days=1), NOW.date() + timedelta(days=30))
    assert data.sums(ahead).days == ()


# --- who sees what -------------------------------------------------------------------------------------------------


def test_rooms_and_buildings_of_others_do_not_exist(site: Site) -> None:
    rooms = {room.building_id: room.id for room in site.store.rooms(ORG)}
    mine, others = sorted(rooms)[0], sorted(rooms)[1:]
    narrow = site.person(Role.CONTROLLER, buildings=frozenset({mine}))
    assert narrow.get(f"/o/{ORG}/rooms/{rooms[mine]}").status_code == 200
    for building in others:
        assert narrow.get(f"/o/{ORG}/rooms/{rooms[building]}").status_code == 404
        for page in ("now", "overview", "rooms", "bookings"):
            assert narrow.get(f"/o/{ORG}/{page}?building={building}").status_code == 404
        assert narrow.get(f"/o/{ORG}/compare?b_building={building}").status_code == 404
    names = {b.id: b.name for b in site.store.buildings(ORG)}
    for path in PATHS:
        if path != "rooms/sim-0000":
            text = get(narrow, path)
            assert not any(names[b] in text or f"rooms/{rooms[b]}" in text for b in others), path
    chief = site.person(Role.CONTROLLER)
    assert chief.get(f"/o/{ORG}/rooms/far").status_code == 404
    assert chief.get(f"/o/{ORG}/rooms/nowhere").status_code == 404


def test_who_may_not_see_events_sees_no_names_and_no_list(site: Site) -> None:
    viewer = site.person(Role.VIEWER)
    assert viewer.get(f"/o/{ORG}/bookings").status_code == 403
    chief = site.person(Role.CONTROLLER)
    for path in ("now", "rooms/sim-0001?day=2026-09-15"):
        assert re.search(r"Simulated (Statistics|Mechanics|Dutch|Bio|Pro|Ethics|Log|Mark|meeting)", get(chief, path))
        assert not re.search(
            r"Simulated (Statistics|Mechanics|Dutch|Bio|Pro|Ethics|Log|Mark|meeting)", get(viewer, path)
        )
    assert "Bookings of this day" not in get(viewer, "rooms/sim-0001?day=2026-09-15")


@pytest.fixture(scope="module")
def meeting(site: Site) -> date:
    """A meeting of three in a room of its own, on a day long past."""
    day = date(2026, 9, 16)
    building = site.store.buildings(ORG)[0]
    site.store.put_rooms(
        ORG, [Room(ORG, "den", building.id, "9.1", "<b>Den</b></script>", (Capacity(FIRST, 8),), "meeting")]
    )
    begin, _ = day_bounds(day, DUTCH.zone)
    start, end = moment_of(begin + 600), moment_of(begin + 660)
    site.store.replace_bookings(
        ORG,
        "office",
        (start - timedelta(days=1), end + timedelta(days=1)),
        [
            PlannedBooking(
                source="office", source_id="42", start=start, end=end, room_id="den", title="Salary <i>talk</i>",
                booked_by="Ada Lovelace", expected_size=3,
            )
        ],
        start - timedelta(days=2),
    )  # fmt: skip
    from analytics.domain.model import COVERAGE_SCALE, SLOT_DTYPE, Sensor, Watch, WatchKind

    site.store.add_sensor(Sensor(ORG, "sim-den", "", (Watch("den", WatchKind.ROOM),)))
    slots = np.zeros(900, dtype=SLOT_DTYPE)
    minute = np.arange(420, 1320)
    slots["start"], slots["seconds"], slots["health"] = (begin + minute) * 60, 60, 1
    slots["coverage"] = COVERAGE_SCALE
    slots["present"] = slots["present_max"] = np.where((minute >= 598) & (minute < 661), 3, 0)
    site.store.ingest_slots(ORG, {"sim-den": slots}, end)
    from analytics.rollups import refresh

    refresh(site.store, ORG)
    return day


def day_data(text: str) -> Any:
    found = re.search(r'id="day-data">(.*?)</script>', text)
    assert found is not None
    return json.loads(found.group(1))


def test_counts_of_one_to_four_are_for_those_with_need(site: Site, meeting: date) -> None:
    path = f"rooms/den?day={meeting}"
    planner = site.person(Role.TIMETABLER)
    reader = site.person(Role.TIMETABLER, without=frozenset({Right.SEE_SMALL_COUNTS}))
    lines = {name: next(d for d in day_data(get(c, path))["data"] if d.get("name") == "measured")["y"]
             for name, c in (("planner", planner), ("reader", reader))}  # fmt: skip
    assert set(lines["planner"]) == {0.0, 3.0, None}
    assert set(lines["reader"]) == {0.0, 4.0, None}
    text = get(reader, path)
    assert "fewer than 5" in text
    assert "Most people at once: fewer than 5" in text
    assert "Most people at once: 3" in get(planner, path)
    table_rows = re.search(r"<tbody>(.*?)</tbody>", text, re.DOTALL)
    assert table_rows is not None
    assert not re.search(r">[1-4]</td>", table_rows.group(1))


def test_names_of_rooms_and_events_never_become_markup(site: Site, meeting: date) -> None:
    chief = site.person(Role.CONTROLLER)
    for path in (f"rooms/den?day={meeting}", "rooms", "now", "overview?from=2026-09-14&to=2026-09-18", "bookings"):
        text = get(chief, path)
        assert "<b>Den" not in text and "<i>talk" not in text
        assert "</script>" not in "".join(re.findall(r'application/json"[^>]*>(.*?)</script>', text, re.DOTALL))
    assert "&lt;i&gt;talk" in get(chief, f"rooms/den?day={meeting}")


def test_a_bookers_name_is_shown_to_the_right_person_once_and_audited(site: Site, meeting: date) -> None:
    path = f"/o/{ORG}/rooms/den"
    form = {"source": "office", "source_id": "42", "day": meeting.isoformat()}
    for client in (site.person(Role.CONTROLLER), site.person(Role.VIEWER)):
        assert "Who booked this" not in client.get(f"{path}?day={meeting}").text
        assert client.post(f"{path}/booker", data=form).status_code == 403
    trusted = site.person(Role.TIMETABLER, extra=frozenset({Right.SEE_BOOKERS}))
    before = len(site.portal.audit.entries(ORG))
    page = trusted.get(f"{path}?day={meeting}")
    assert "Who booked this" in page.text
    assert "Lovelace" not in page.text
    for wrong in (
        {**form, "source_id": "43"},
        {**form, "day": "2026-09-17"},
        {**form, "day": "x"},
        {"day": "9999-12-31"},
    ):
        assert trusted.post(f"{path}/booker", data=wrong).status_code == 404
    assert len(site.portal.audit.entries(ORG)) == before
    answer = trusted.post(f"{path}/booker", data=form)
    assert "booked by Ada Lovelace" in answer.text
    entry = site.portal.audit.entries(ORG, limit=1)[0]
    assert (entry.action, entry.detail) == (
        "bookers.reveal",
        {"room": "den", "source": "office", "booking": "42"},
    )
    assert "Lovelace" not in json.dumps(dict(entry.detail))
    assert "Lovelace" not in trusted.get(f"{path}?day={meeting}").text
    unseeing = site.person(Role.VIEWER, extra=frozenset({Right.SEE_BOOKERS}))
    assert unseeing.post(f"{path}/booker", data=form).status_code == 403


# --- bookings ------------------------------------------------------------------------------------------------------


def test_the_list_of_no_shows_holds_what_the_minutes_say(site: Site, chief: TestClient) -> None:
    choice = Filter(FIRST, FIRST + timedelta(weeks=3))
    data = data_of(site)
    expected = set()
    for room in data.sums(choice).rooms:
        for row in booking_rows(site.store, data.site, room.id, choice.start, choice.last):
            if row.outcome.word == "no_show":
                expected.add((row.booking.start, room.id))
    assert expected, "the simulation has no no-show to find"
    found = 0
    for at in range(0, 200, 15):
        text = get(chief, f"bookings?{choice.query(at=at)}")
        found += text.count("no-show</span></summary>")
        if "Older ›" not in text:
            break
    assert found == len(expected)


def test_series_of_the_roll_ups_are_those_of_the_minutes(site: Site) -> None:
    choice = Filter(FIRST, NOW.date())
    data = data_of(site)
    found = {(f.room.id, f.title): f for f in find(data, choice)}
    checked = 0
    for room in data.sums(choice).rooms:
        rows = booking_rows(site.store, data.site, room.id, choice.start, choice.last)
        starts = [row.booking.start.replace(minute=0) for row in rows]
        titles = {row.booking.series: row.booking.title for row in rows}
        for key, summary in series_of(rows).items():
            of = [s for s, row in zip(starts, rows, strict=True) if key.endswith("/" + row.booking.series)]
            if not of or any(starts.count(s) > 1 for s in of):
                continue
            finding = found.get((room.id, titles[key.split("/", 1)[1]]))
            verdicts = (Verdict.UNDER_USED, Verdict.OVER_FULL, Verdict.NEVER_HELD)
            if summary.verdict in verdicts and summary.bookings >= 3:
                assert finding is not None, key
                assert finding.summary.median == pytest.approx(summary.median, nan_ok=True)
                assert finding.summary.seats_needed == summary.seats_needed
                checked += 1
    assert checked > 5


def test_a_proposed_room_fits_was_free_and_is_proposed_once_at_a_time(site: Site) -> None:
    data = data_of(site)
    taken: set[tuple[str, date, int]] = set()
    proposed = [f for f in find(data, Filter(FIRST, NOW.date())) if f.proposal is not None]
    for finding in proposed:
        assert finding.proposal is not None
        assert finding.proposal.building_id == finding.room.building_id
        assert finding.summary.seats_needed <= (finding.proposal_seats or 0)
        if finding.summary.verdict is Verdict.UNDER_USED:
            assert (finding.proposal_seats or 0) < finding.summary.capacity
        for weekday, hour in finding.when:
            cell = (finding.proposal.id, FIRST + timedelta(days=weekday), hour)
            assert cell not in taken
            taken.add(cell)


# --- filters and links ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("from=yesterday", "yesterday is no date"),
        ("from=2026-09-20&to=2026-09-10", "ends before it begins"),
        ("from=2019-01-01&to=2026-09-10", "two years at most"),
        ("class=palace", "no room class palace"),
        ("without=2026-09-10,soon", "soon is no date"),
        ("from=9999-12-31&to=9999-12-31", "9999-12-31 is no date"),
        ("weekday=9&period=none&sort=evil&building=", ""),
    ],
)
def test_what_an_address_says_wrongly_is_named(chief: TestClient, query: str, says: str) -> None:
    for page in ("overview", "rooms", "rooms/sim-0000", "bookings"):
        text = get(chief, f"{page}?{query}")
        if says and not (page == "rooms/sim-0000" and "class" in query):
            assert says in text


def test_tables_can_be_sorted_and_searched(chief: TestClient) -> None:
    text = get(chief, "rooms?sort=-hours_lost")
    cells = re.findall(r'<td class="number">([\d.–]+)</td><td class="number">[^<]*</td><td class="number">[^<]*</td>'
                       r'<td class="number">[^<]*</td></tr>', text)  # fmt: skip
    values = [float(cell) for cell in cells if cell != "–"]
    assert values == sorted(values, reverse=True)
    assert len(values) > 3
    assert 'aria-sort="descending"' in text
    assert "sim-0002" in get(chief, "rooms?q=room+2") and "sim-0003" not in get(chief, "rooms?q=room+2")


def test_a_day_of_23_and_of_25_hours_reads_right(site: Site, chief: TestClient) -> None:
    for day, hours in (("2026-03-29", 23), ("2026-10-25", 25)):
        axis = day_data(get(chief, f"rooms/sim-0000?day={day}"))["layout"]["xaxis"]
        at = dict(zip(axis["ticktext"], axis["tickvals"], strict=True))
        assert at["12:00"] == (12 - (24 - hours)) * 60


def test_comparing_shows_both_sides_and_their_difference(site: Site, chief: TestClient) -> None:
    first = Filter(FIRST, FIRST + timedelta(weeks=1))
    second = Filter(FIRST + timedelta(weeks=1), FIRST + timedelta(weeks=2))
    text = get(chief, f"compare?{first.query('a_')}&{second.query('b_')}")
    t, data = Language("en", DUTCH.zone), data_of(site)
    a, b = (data.sums(choice).total()["unused_booked"] for choice in (first, second))
    assert t.percent(a, 1) in text and t.percent(b, 1) in text
    assert f"{(b - a) * 100:+.1f} points".replace("-", "−") in text


def test_versions_of_the_plan_can_be_compared(chief: TestClient) -> None:
    text = get(chief, "compare?b_from=2026-09-07&b_to=2026-09-13&a_known=2026-08-30")
    found = re.search(r"From the first to the second version: (\d+) bookings came, (\d+) went, (\d+) changed", text)
    assert found is not None
    assert int(found.group(2)) > 0, "the simulation withdraws bookings a day before"
    assert found.group(1) == found.group(3) == "0"
    assert "too long" in get(chief, "compare?b_from=2026-07-01&b_to=2026-09-13&a_known=2026-08-30")
