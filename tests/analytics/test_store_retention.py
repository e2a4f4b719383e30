"""Retention by class of data, on every store, with a clock of the test's own."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from analytics.domain.model import DayRollup, EnrolmentCode, Organisation, PlannedBooking
from analytics.retention import LEASE, Removed, RetentionJob, RetentionPolicy, remove_expired
from analytics.store.base import Store
from uplink.messages import CountRecord

NOW = datetime(2026, 6, 1, 3, 0, tzinfo=UTC)
FOREVER = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
POLICY = RetentionPolicy(
    count_days=10,
    conflict_days=5,
    rollup_days=60,
    booking_days=20,
    booking_history_days=8,
    booker_name_days=3,
    enrolment_days=2,
)
KEEP_ALL = RetentionPolicy(**dict.fromkeys(asdict(POLICY)))


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def count(days: float, present: int = 1) -> CountRecord:
    start = ago(days).replace(second=0)
    return CountRecord(sensor_id="s1", start=start, present=present, present_max=9, coverage=1.0)


def booking(source_id: str, days: float, name: str | None = None, title: str = "") -> PlannedBooking:
    return PlannedBooking(
        source="cal",
        source_id=source_id,
        start=ago(days) - timedelta(hours=1),
        end=ago(days),
        booked_by=name,
        title=title,
        room_id="r1",
    )


@pytest.fixture
def filled(store: Store) -> Store:
    for org in ("org", "rival"):
        store.put_organisation(Organisation(org, org))
        store.ingest(org, [count(11.5), count(10), count(1)], ago(1))
        store.ingest(org, [count(10, 5)], ago(6))
        store.ingest(org, [count(1, 5)], ago(1))
        store.put_rollups(
            org,
            [DayRollup("r1", d, "v1", {"m": np.ones(24)}) for d in (date(2026, 3, 31), date(2026, 4, 2))],
        )
        old = [booking("old", 21, "A"), booking("named", 4, "B"), booking("fresh", 1, "C"), booking("gone", 1, "D")]
        store.replace_bookings(org, "cal", FOREVER, old, ago(15))
        store.replace_bookings(org, "cal", FOREVER, [*old[:2], booking("fresh", 1, "C", "new title")], ago(9))
        for name, days in (("c1", 3), ("c2", 1)):
            store.add_enrolment(EnrolmentCode(f"{org}-{name}", org, "s1", "h", ago(days), 3, ago(30)))
    return store


def test_each_class_goes_at_its_own_age(filled: Store) -> None:
    removed = remove_expired(filled, "org", POLICY, NOW)
    assert removed == Removed(
        counts=1,
        conflicts=1,
        rollups=1,
        bookings=1,
        booking_history=3,  # the first "fresh", the first "gone" and its tombstone
        booker_names=2,
        enrolments=1,
    )
    assert len(filled.counts("org", ["s1"], *FOREVER)["s1"]) == 2
    assert [int(c.offered["present"]) for c in filled.conflicts("org", ["s1"], *FOREVER)] == [5]
    plan = filled.bookings("org", None, *FOREVER, reveal_names=True)
    assert [(b.source_id, b.booked_by) for b in plan] == [("named", None), ("fresh", "C")]
    assert filled.booking_history("org", "cal", "gone") == []
    assert [c.id for c in filled.enrolments("org")] == ["org-c2"]
    table = filled.rollups("org", ["r1"], date(2026, 3, 31), date(2026, 4, 3), "v1", ["m"])
    assert np.isnan(table.measures["m"][0, :, 0]).tolist() == [True, True, False]


def test_another_organisation_loses_nothing_and_a_second_run_finds_nothing(filled: Store) -> None:
    remove_expired(filled, "org", POLICY, NOW)
    assert remove_expired(filled, "org", POLICY, NOW) == Removed()
    assert len(filled.counts("rival", ["s1"], *FOREVER)["s1"]) == 3
    assert len(filled.bookings("rival", None, *FOREVER)) == 3
    assert len(filled.enrolments("rival")) == 2
    assert remove_expired(filled, "rival", KEEP_ALL, NOW) == Removed()


def test_one_of_two_processes_does_it(filled: Store) -> None:
    job = RetentionJob(filled, lambda org: POLICY if org == "org" else KEEP_ALL, "a", lambda: NOW)
    held = filled.acquire_lease(LEASE, "b", timedelta(minutes=5), NOW)
    assert held is not None
    assert job.run() is None
    filled.release_lease(held)
    result = job.run()
    assert result is not None
    assert result["org"].counts == 1
    assert result["rival"] == Removed()
    assert filled.acquire_lease(LEASE, "b", timedelta(minutes=5), NOW) is not None  # given back


def test_less_than_a_day_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="booker_name_days is 0"):
        RetentionPolicy(booker_name_days=0)
