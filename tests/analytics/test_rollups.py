"""Roll-ups follow what arrives, late ones too, and say the same as the minutes they come from."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from analytics import rollups
from analytics.assemble import Site, load_room
from analytics.domain.metrics import DEFINITION
from analytics.domain.model import (
    SLOT_DTYPE,
    Building,
    Capacity,
    Organisation,
    PlannedBooking,
    Room,
    Sensor,
    Watch,
    WatchKind,
)
from analytics.domain.plan import MatchRules
from analytics.figures import By, Scope, booking_rows, heat_map, peaks, series_of, table
from analytics.simulate import Campus, populate
from analytics.store.base import Store

ORG = "org"
DAY = date(2026, 3, 2)  # a Monday
SCOPE = Scope(ORG, DAY, DAY + timedelta(days=1))


def at(hour: int, minute: int = 0, day: date = DAY) -> datetime:
    """Local winter time in Amsterdam as UTC."""
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=UTC) - timedelta(hours=1)


def send(store: Store, sensor: str, spans: list[tuple[datetime, datetime, int]]) -> None:
    starts = [(int(s.timestamp()) + 60 * i, n) for s, e, n in spans for i in range(int((e - s).total_seconds()) // 60)]
    slots = np.zeros(len(starts), dtype=SLOT_DTYPE)
    slots["start"], slots["present"] = [s for s, _ in starts], [n for _, n in starts]
    slots["present_max"], slots["seconds"], slots["coverage"], slots["health"] = slots["present"], 60, 10_000, 1
    store.ingest_slots(ORG, {sensor: slots}, datetime(2026, 3, 3, tzinfo=UTC))


def book(store: Store, recorded: datetime, *bookings: PlannedBooking) -> None:
    store.replace_bookings(ORG, "plan", (at(0), at(23)), bookings, recorded)


def booking(start: datetime, end: datetime, room: str = "a", key: str = "1", **more: object) -> PlannedBooking:
    return PlannedBooking(
        source="plan", source_id=key, start=start, end=end, room_id=room, room_ref=room, title="Statistics",
        expected_size=20, **more,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture
def house(store: Store) -> Store:
    """Two rooms of 40 seats that fold into one of 80."""
    store.put_organisation(Organisation(ORG, "Org"))
    store.put_buildings(ORG, [Building(ORG, "main", "Main")])
    seats = (Capacity(date(2020, 1, 1), 40),)
    store.put_rooms(ORG, [
        Room(ORG, "a", "main", "1", capacities=seats, room_class="small"),
        Room(ORG, "b", "main", "2", capacities=seats, room_class="small"),
        Room(ORG, "ab", "main", "1+2", capacities=(Capacity(date(2020, 1, 1), 80),), parts=("a", "b")),
    ])  # fmt: skip
    for room in "ab":
        store.add_sensor(Sensor(ORG, f"s-{room}", watches=(Watch(room, WatchKind.ROOM),)))
    return store


def test_counts_then_bookings_then_late_counts(house: Store) -> None:
    send(house, "s-a", [(at(9), at(11), 20)])
    assert rollups.refresh(house, ORG).room_days >= 1
    found = table(house, SCOPE, By.ROOM)
    row = found.labels.index("a")
    assert found.figures["coverage"][row] == pytest.approx(2 / 15)
    assert found.figures["frequency"][row] == 1
    assert found.figures["utilisation"][row] == 0.5
    assert found.figures["planned_frequency"][row] == 0

    book(house, at(8), booking(at(9), at(12)))
    rollups.refresh(house, ORG)
    assert table(house, SCOPE, By.ROOM).figures["planned_frequency"][row] == pytest.approx(3 / 15)
    assert table(house, SCOPE, By.ROOM).figures["unused_booked"][row] == 0  # the third hour is unknown, not unused

    send(house, "s-a", [(at(11), at(12), 0)])  # from a spool, hours later
    rollups.refresh(house, ORG)
    assert table(house, SCOPE, By.ROOM).figures["unused_booked"][row] == pytest.approx(1 / 3)
    assert rollups.refresh(house, ORG) == rollups.Refreshed(0, 0, False)
    assert not house.stale_days(ORG)


def test_a_day_that_changes_during_the_work_stays_on_the_list(house: Store) -> None:
    send(house, "s-a", [(at(9), at(10), 5)])
    stale = house.stale_days(ORG)
    send(house, "s-a", [(at(10), at(11), 5)])
    house.clear_stale(ORG, stale)
    assert house.stale_days(ORG)


def test_a_sensor_that_never_spoke_lowers_the_coverage(house: Store) -> None:
    send(house, "s-a", [(at(7), at(22), 5)])
    rollups.refresh(house, ORG)
    found = table(house, SCOPE, By.BUILDING)
    assert found.figures["coverage"][0] == pytest.approx(0.5)
    assert found.days_missing == 1  # of room b
    assert found.labels == ("main",)


def test_a_combined_room_counts_its_parts_together_and_takes_their_time(house: Store) -> None:
    send(house, "s-a", [(at(7), at(9), 0), (at(9), at(11), 30), (at(11), at(22), 0)])
    send(house, "s-b", [(at(7), at(9), 0), (at(9), at(11), 25), (at(11), at(22), 0)])
    book(house, at(6), booking(at(9), at(11), room="ab"))
    rollups.refresh(house, ORG)
    site = Site.load(house, ORG)
    (row,) = booking_rows(house, site, "ab", DAY, DAY)
    assert (row.outcome.word, row.attendance) == ("held", 55)
    assert booking_rows(house, site, "a", DAY, DAY) == []
    parts = table(house, SCOPE, By.ROOM, ("planned_frequency", "unscheduled"))
    assert parts.labels == ("a", "b")
    assert parts.figures["planned_frequency"].tolist() == pytest.approx([2 / 15, 2 / 15])
    assert parts.figures["unscheduled"].tolist() == [0, 0]
    assert parts.sums["in_use_minutes"].sum() == 240
    whole = table(house, replace(SCOPE, rooms=("ab",)), By.ROOM, ("fill",))
    assert whole.figures["fill"][0] == pytest.approx(55 / 80)
    assert peaks(house, SCOPE).highest == 55


def test_bookings_withdrawn_in_time_are_counted_apart_and_late_ones_are_judged(house: Store) -> None:
    send(house, "s-a", [(at(7), at(22), 0)])
    morning, noon = booking(at(9), at(10), key="m"), booking(at(12), at(13), key="n")
    book(house, at(6), morning, noon)
    book(house, at(8), noon)  # the first one is gone an hour before
    book(house, at(12, 30))  # the second one while it ran
    rollups.refresh(house, ORG)
    (row,) = booking_rows(house, Site.load(house, ORG), "a", DAY, DAY)
    assert row.booking.source_id == "n"
    assert row.late_withdrawn
    assert row.outcome.word == "no_show"
    sums = table(house, SCOPE, By.ALL, ("no_show_rate",)).sums
    assert sums["bookings"].tolist() == [1]
    cells = load_room(house, Site.load(house, ORG), "a", DAY, DAY).cells()
    assert cells.hours["bookings_withdrawn"].sum() == 1


def test_a_sensor_that_was_put_up_later_says_nothing_about_the_time_before(house: Store) -> None:
    house.update_sensor(ORG, "s-a", lambda s: replace(s, watches=(Watch("a", WatchKind.ROOM, valid_from=at(10)),)))
    send(house, "s-a", [(at(9), at(11), 20)])
    rollups.refresh(house, ORG)
    sums = table(house, replace(SCOPE, rooms=("a",)), By.HOUR, ("frequency",))
    hours = dict(zip(sums.labels, sums.sums["measured_minutes"].tolist(), strict=True))
    assert (hours["09"], hours["10"]) == (0, 60)


def test_only_the_holder_of_the_lease_works(house: Store) -> None:
    send(house, "s-a", [(at(9), at(10), 5)])
    now = datetime(2026, 3, 3, tzinfo=UTC)
    lease = house.acquire_lease(rollups.LEASE, "other", timedelta(minutes=1), now)
    assert lease is not None
    assert rollups.refresh_all(house, "me", now) == 0
    assert rollups.refresh_all(house, "me", now + timedelta(minutes=2)) >= 1


def test_unknown_names_are_refused(house: Store) -> None:
    with pytest.raises(KeyError, match="nope"):
        table(house, replace(SCOPE, rooms=("nope",)))
    with pytest.raises(KeyError, match="nothing"):
        table(house, replace(SCOPE, buildings=("nothing",)))
    with pytest.raises(KeyError):
        table(house, SCOPE, By.ROOM, ("occupation",))
    with pytest.raises(ValueError, match="exclusive"):
        Scope(ORG, DAY, DAY)


def test_every_grouping_adds_up_to_the_same(store: Store) -> None:
    campus = Campus(rooms=4, weeks=2, seed=4)
    populate(store, campus)
    while rollups.refresh(store, "sim-campus").behind:
        pass
    scope = Scope("sim-campus", campus.first, campus.last + timedelta(days=1))
    totals = {by: table(store, scope, by).total for by in By}
    for by, total in totals.items():
        assert total == pytest.approx(totals[By.ALL], nan_ok=True), by
    assert table(store, scope, By.PERIOD).labels == ("Teaching week 1", "Teaching week 2")
    heat = heat_map(store, scope, ("frequency",))
    assert heat.figures["frequency"].shape == (7, 24)
    assert np.isnan(heat.figures["frequency"][6]).all()
    assert np.isnan(heat.figures["frequency"][0, 3])
    site = Site.load(store, "sim-campus")
    room = next(iter(site.rooms))
    rows = booking_rows(store, site, room, campus.first, campus.last)
    assert sum(s.bookings for s in series_of(rows).values()) == len(rows)


def test_whole_buildings_say_the_same_as_their_rooms_and_step_aside_when_they_do_not(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from analytics import figures

    campus = Campus(rooms=6, weeks=2, seed=8)
    populate(store, campus)
    while rollups.refresh(store, "sim-campus").behind:
        pass
    scope = Scope("sim-campus", campus.first, campus.last + timedelta(days=1))
    whole = table(store, scope, By.BUILDING)
    heat = heat_map(store, scope, ("utilisation",))
    rooms = Scope("sim-campus", scope.start, scope.end).choose(Site.load(store, "sim-campus"))
    assert figures._whole_buildings(store, scope, rooms, ("open_minutes",)) is not None
    with monkeypatch.context() as patch:
        patch.setattr(figures, "_whole_buildings", lambda *_: None)
        patch.setattr(figures, "_ROOMS_AT_ONCE", 2)
        single = table(store, scope, By.BUILDING)
        np.testing.assert_allclose(
            heat_map(store, scope, ("utilisation",)).figures["utilisation"], heat.figures["utilisation"]
        )
    assert (whole.labels, whole.days_missing) == (single.labels, single.days_missing)
    for name, values in single.figures.items():
        np.testing.assert_allclose(whole.figures[name], values, err_msg=name)
    # A room that nothing is known of yet counts at once.
    building = rooms[0].building_id
    store.put_rooms("sim-campus", [Room("sim-campus", "new", building, "9", capacities=rooms[0].capacities)])
    more = table(store, scope, By.BUILDING)
    row = more.labels.index(building)
    assert more.figures["coverage"][row] < whole.figures["coverage"][row]
    assert more.days_missing == whole.days_missing + 10


def test_new_rules_are_computed_for_the_past_too(house: Store) -> None:
    send(house, "s-a", [(at(8), at(9, 15), 0), (at(9, 15), at(10), 10)])
    book(house, at(8), booking(at(9), at(10)))

    def late_starts() -> float:
        found = house.rollups(ORG, ["a"], SCOPE.start, SCOPE.end, DEFINITION, ("bookings_late_start",))
        return float(np.nansum(found.measures["bookings_late_start"]))

    rollups.refresh(house, ORG)
    assert late_starts() == 1
    assert rollups.rebuild(house, ORG, DAY, DAY) == 3
    assert rollups.refresh(house, ORG, rules_of=quarter).room_days == 3
    assert late_starts() == 0


def quarter(_: Building) -> MatchRules:
    return MatchRules(start_offset=15)
