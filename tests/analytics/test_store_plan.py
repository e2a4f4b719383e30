"""The contract of bookings: whole pulls, revisions, tombstones, names; on every store."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from analytics.domain.model import BookingStatus, Building, PlannedBooking, PullResult, Room, StaleKind
from analytics.store.base import Store
from analytics.store.errors import StaleWriteError

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
WINDOW = (MONDAY, MONDAY + timedelta(days=7))
MORNING, NEXT_MORNING = MONDAY - timedelta(hours=20), MONDAY + timedelta(hours=4)
CANARY = "Zz Canary-Naam"


def booking(source_id: str = "b1", hour: float = 9.0, **more: Any) -> PlannedBooking:
    start = MONDAY + timedelta(hours=hour)
    values: dict[str, Any] = {
        "source": "cal",
        "source_id": source_id,
        "start": start,
        "end": start + timedelta(hours=2),
        "room_id": "r1",
        "room_ref": "R 1",
        "title": "Algebra",
    }
    return PlannedBooking(**{**values, **more})


def pull(store: Store, bookings: list[PlannedBooking], at: datetime = MORNING, **more: Any) -> PullResult:
    return store.replace_bookings("org", "cal", WINDOW, bookings, at, **more)


def plan(store: Store, **more: Any) -> list[tuple[str, float]]:
    found = store.bookings("org", more.pop("rooms", None), *WINDOW, **more)
    return [(b.source_id, (b.start - MONDAY) / timedelta(hours=1)) for b in found]


def test_every_field_reads_back(store: Store) -> None:
    full = booking(
        building="B",
        status=BookingStatus.TENTATIVE,
        expected_size=40,
        category="lecture",
        source_version="v7",
        series="algebra-1",
        start=MONDAY + timedelta(hours=9, microseconds=1999),
    )
    pull(store, [full])
    (stored,) = store.bookings("org", ["r1"], *WINDOW)
    for name in ("source_id", "end", "room_id", "room_ref", "building", "title", "status", "expected_size", "category"):
        assert getattr(stored, name) == getattr(full, name)
    assert stored.start == MONDAY + timedelta(hours=9, microseconds=1000)  # milliseconds are kept
    assert (stored.source_version, stored.series, stored.org_id, stored.deleted) == ("v7", "algebra-1", "org", False)
    assert (stored.recorded_at, stored.superseded_at) == (MORNING, None)


def test_a_second_pull_changes_nothing(store: Store) -> None:
    bookings = [booking("b1", start=MONDAY + timedelta(microseconds=12_345)), booking("b2", 13, booked_by="A. Boeker")]
    assert pull(store, bookings) == PullResult(new=2)
    store.clear_stale("org", store.stale_days("org"))
    assert pull(store, bookings, NEXT_MORNING) == PullResult(unchanged=2)
    assert [len(store.booking_history("org", "cal", b.source_id)) for b in bookings] == [1, 1]
    assert store.stale_days("org") == []


def test_changes_make_revisions_and_the_vanished_a_tombstone(store: Store) -> None:
    pull(store, [booking("b1"), booking("b2", 13)])
    assert pull(store, [booking("b1", 10)], NEXT_MORNING) == PullResult(changed=1, removed=1)
    assert plan(store) == [("b1", 10)]
    first, second = store.booking_history("org", "cal", "b1")
    assert (first.superseded_at, second.recorded_at, second.superseded_at) == (NEXT_MORNING, NEXT_MORNING, None)
    assert first.revision < second.revision
    alive, dead = store.booking_history("org", "cal", "b2")
    assert (alive.deleted, dead.deleted, dead.title) == (False, True, "Algebra")
    assert plan(store, as_of=MORNING) == [("b1", 9), ("b2", 13)]  # the plan as known before
    assert plan(store, as_of=MORNING - timedelta(seconds=1)) == []
    assert pull(store, [booking("b1", 10), booking("b2", 13)], NEXT_MORNING) == PullResult(unchanged=1, revived=1)
    assert plan(store) == [("b1", 10), ("b2", 13)]
    everything = store.revisions("org", ["r1"], *WINDOW)
    assert sorted((b.source_id, b.revision, b.deleted) for b in everything) == [
        ("b1", 1, False),
        ("b1", 2, False),
        ("b2", 1, False),
        ("b2", 2, True),
        ("b2", 3, False),
    ]


def test_only_what_the_pull_looked_at_can_vanish(store: Store) -> None:
    outside = booking("later", 24 * 8)
    other_room = booking("r2", room_id="r2", room_ref="R 2")
    store.replace_bookings("org", "other", WINDOW, [replace(booking("x"), source="other")], MORNING)
    pull(store, [booking("b1"), outside, other_room])
    assert pull(store, [], room_refs=["R 1"]) == PullResult(removed=1)
    assert [b.source_id for b in store.bookings("org", None, WINDOW[0], WINDOW[1] + timedelta(days=9))] == [
        "x",
        "r2",
        "later",
    ]
    assert pull(store, []) == PullResult(removed=1)
    assert plan(store) == [("x", 9)]


def test_a_booking_moved_out_of_the_window_is_found_again(store: Store) -> None:
    pull(store, [booking("b1", 24 * 8)])
    assert pull(store, [booking("b1", 9)]) == PullResult(changed=1)
    assert len(store.booking_history("org", "cal", "b1")) == 2


def test_a_refused_pull_leaves_the_plan_as_it_was(store: Store) -> None:
    pull(store, [booking("b1")])
    store.clear_stale("org", store.stale_days("org"))
    for bad in (
        [booking("b2"), booking("b2", 13)],
        [booking("b2"), replace(booking("b3"), source="other")],
        [booking("b2"), booking("b3", end=MONDAY)],
        [booking("b2"), booking("b3", start=datetime(2026, 3, 2, 9), end=datetime(2026, 3, 2, 11))],
    ):
        with pytest.raises(ValueError, match=r"b2|b3|time zone"):
            pull(store, bad, NEXT_MORNING)
    assert plan(store) == [("b1", 9)]
    assert store.stale_days("org") == []
    assert [b.source_id for b in store.revisions("org", None, *WINDOW)] == ["b1"]


def test_what_overlaps_is_half_open_and_zero_length_bookings_lie_where_they_begin(store: Store) -> None:
    noon = MONDAY + timedelta(hours=12)
    pull(
        store,
        [
            booking("before", start=noon - timedelta(hours=1), end=noon),
            booking("point", start=noon, end=noon),
            booking("over", start=noon - timedelta(hours=1), end=noon + timedelta(hours=3)),
            booking("after", start=noon + timedelta(hours=1), end=noon + timedelta(hours=2)),
        ],
    )

    def between(start: datetime, end: datetime) -> list[str]:
        return [b.source_id for b in store.bookings("org", ["r1"], start, end)]

    assert between(noon, noon + timedelta(hours=1)) == ["over", "point"]
    assert between(noon - timedelta(hours=1), noon) == ["before", "over"]
    assert between(noon + timedelta(hours=1), noon + timedelta(days=1)) == ["over", "after"]


def test_rooms_and_organisations_are_apart(store: Store) -> None:
    pull(store, [booking("b1"), booking("b2", room_id="r2"), booking("lost", room_id=None)])
    store.replace_bookings("rival", "cal", WINDOW, [booking("b1", title="Secret")], MORNING)
    assert plan(store, rooms=["r2"]) == [("b2", 9)]
    assert plan(store, rooms=[]) == []
    assert {b.source_id for b in store.bookings("org", None, *WINDOW)} == {"b1", "b2", "lost"}
    assert [b.title for b in store.bookings("rival", None, *WINDOW)] == ["Secret"]
    assert [b.org_id for b in store.booking_history("org", "cal", "b1")] == ["org"]
    assert store.booking_history("third", "cal", "b1") == []


def test_names_come_out_only_when_asked_for_and_go_with_the_booking(store: Store) -> None:
    pull(store, [booking("b1", booked_by=CANARY), booking("b2", 13)])
    assert [b.booked_by for b in store.bookings("org", None, *WINDOW)] == [None, None]
    assert [b.booked_by for b in store.bookings("org", None, *WINDOW, reveal_names=True)] == [CANARY, None]
    assert store.booking_history("org", "cal", "b1")[0].booked_by is None
    assert pull(store, [booking("b1", booked_by="B. Ander"), booking("b2", 13)]) == PullResult(changed=1, unchanged=1)
    pull(store, [booking("b2", 13)])
    assert [b.booked_by for b in store.bookings("org", None, *WINDOW, reveal_names=True)] == [None]


@pytest.mark.privacy
def test_no_name_reaches_a_log_or_an_error(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    named = booking("b1", booked_by=CANARY)
    pull(store, [named])
    with pytest.raises(ValueError, match="twice") as twice:
        pull(store, [named, named])
    with pytest.raises(ValueError, match="ends before") as reversed_:
        pull(store, [booking("b1", booked_by=CANARY, end=MONDAY)])
    pull(store, [])
    assert CANARY not in caplog.text + str(twice.value) + str(reversed_.value)


def test_days_that_changed_are_stale_in_local_time_and_for_combined_rooms(store: Store) -> None:
    store.put_buildings("org", [Building("org", "bld", "Main", time_zone="America/New_York")])
    store.put_rooms(
        "org",
        [
            Room("org", "r1", "bld", "1"),
            Room("org", "half", "bld", "1a"),
            Room("org", "whole", "bld", "1+1a", parts=("r1", "half")),
        ],
    )
    start = datetime(2026, 3, 4, 3, 0, tzinfo=UTC)  # 22:00 on the 3rd in New York
    pull(store, [booking("b1", start=start, end=start + timedelta(minutes=30))])
    days = store.stale_days("org")
    assert {(d.kind, d.id, d.day) for d in days} == {
        (StaleKind.ROOM, "r1", date(2026, 3, 3)),
        (StaleKind.ROOM, "whole", date(2026, 3, 3)),
    }
    store.mark_stale("org", [("r1", date(2026, 3, 3))])
    store.clear_stale("org", days)
    assert [(d.id, d.day) for d in store.stale_days("org")] == [("r1", date(2026, 3, 3))]
    store.clear_stale("org", store.stale_days("org"))
    moved = booking("b1", room_id="half", start=start, end=start + timedelta(minutes=30))
    pull(store, [moved], NEXT_MORNING)
    assert {d.id for d in store.stale_days("org")} == {"r1", "half", "whole"}


def test_a_clock_set_back_does_not_turn_history_round(store: Store) -> None:
    pull(store, [booking("b1")], NEXT_MORNING)
    pull(store, [booking("b1", 10)], MORNING)
    first, second = store.booking_history("org", "cal", "b1")
    assert first.recorded_at <= second.recorded_at == first.superseded_at


def test_pulls_of_one_source_at_once_leave_one_of_them_whole(store: Store) -> None:
    barrier, outcomes = threading.Barrier(3), []

    def work(title: str) -> None:
        barrier.wait()
        try:
            pull(store, [booking(str(n), n, title=title) for n in range(8)])
            outcomes.append("stored")
        except StaleWriteError:
            outcomes.append("refused")

    threads = [threading.Thread(target=work, args=(title,)) for title in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 3
    assert "stored" in outcomes
    found = store.bookings("org", None, *WINDOW)
    assert len(found) == 8
    assert len({b.title for b in found}) == 1
    assert len(store.booking_history("org", "cal", "0")) == outcomes.count("stored")
