"""Scheduled work: on time, once over all processes, and never ended by a failure."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from analytics.domain.model import Building, Capacity, Organisation, PlannedBooking, Room
from analytics.jobs import Jobs, JobStore
from analytics.master import Policies, save_building, save_rooms, with_capacity
from analytics.retention import RetentionPolicy
from analytics.sources import SourceError, Sources, pull_alone
from analytics.store.errors import StoreUnavailableError
from analytics.store.kept import INSTALLATION, SealedKeep
from analytics.store.sqlite import SqliteStore
from analytics.timetable import TimetableSource
from tests.analytics.conftest import MASTER_KEY
from tests.timetable_adapters.fake import FakeServer, running, status
from tests.timetable_adapters.test_rest_json import Rest
from timetable_adapters.base import ConfigurationError

ORG = "campus"
NOW = datetime(2026, 3, 4, 12, 0, tzinfo=UTC)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **much: float) -> None:
        self.now += timedelta(**much)


def fill(store: Any) -> None:
    store.put_organisation(Organisation(ORG, "Campus"))
    store.put_buildings(ORG, [Building(ORG, "main", "Main")])
    capacities = (Capacity(date(2020, 1, 1), 60),)
    store.put_rooms(ORG, [Room(ORG, f"main-{n}", "main", n, capacities=capacities) for n in ("101", "102")])


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore.open(tmp_path / "store.db", MASTER_KEY) as store:
        fill(store)
        yield store


@pytest.fixture
def system() -> Iterator[FakeServer]:
    with running(Rest()) as server:
        yield server


def jobs_on(store: JobStore, clock: Clock) -> Jobs:
    return Jobs(store, SealedKeep(store, MASTER_KEY), clock=clock)


def source(server: FakeServer, **changes: Any) -> TimetableSource:
    return TimetableSource(org_id=ORG, id="plan", kind="rest", settings=server.system.settings(), **changes)


def plan(store: JobStore) -> list[Any]:
    return store.bookings(ORG, None, NOW - timedelta(days=30), NOW + timedelta(days=30))


def test_a_source_is_pulled_at_once_and_then_every_night(embedded: SqliteStore, system: FakeServer) -> None:
    clock = Clock()
    jobs = jobs_on(embedded, clock)
    Sources(SealedKeep(embedded, MASTER_KEY)).add(source(system))
    jobs.run("pulls")
    asked = len(system.requests)
    assert len(plan(embedded)) == len(system.system.events)
    for _ in range(30):
        clock.forward(minutes=1)
        jobs.run("pulls")
    assert len(system.requests) == asked
    clock.now = datetime(2026, 3, 5, 5, 0, tzinfo=UTC)
    jobs.run("pulls")
    assert len(system.requests) == 2 * asked


def test_a_failing_source_is_tried_ever_later_and_heals(embedded: SqliteStore, system: FakeServer) -> None:
    clock = Clock()
    jobs = jobs_on(embedded, clock)
    jobs._patience["limits"] = None
    sources = Sources(SealedKeep(embedded, MASTER_KEY))
    sources.add(source(system))
    system.fail(status(403))
    tries = []
    for minute in range(0, 24 * 60, 5):
        before = len(system.requests)
        jobs.run("pulls")
        if len(system.requests) > before:
            tries.append(minute)
        clock.forward(minutes=5)
    waits = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert waits == sorted(waits)
    assert waits[0] == 60
    assert len(tries) <= 6
    last = sources.last_pull(ORG, "plan")
    assert last is not None
    assert last.failures == len(tries)
    assert last.succeeded_at is None
    assert plan(embedded) == []
    system.fail(status(403), times=0)
    clock.forward(days=2)
    assert jobs.run("pulls")
    last = sources.last_pull(ORG, "plan")
    assert last is not None
    assert (last.failure, last.failures) == ("", 0)


def test_a_source_that_is_switched_off_or_gone_is_left_alone(embedded: SqliteStore, system: FakeServer) -> None:
    clock = Clock()
    sources = Sources(SealedKeep(embedded, MASTER_KEY))
    sources.add(source(system, enabled=False))
    jobs_on(embedded, clock).run("pulls")
    assert system.requests == []
    with pytest.raises(SourceError, match="no source"):
        pull_alone(embedded, sources, ORG, "other", "me", clock)


def test_only_one_pulls_at_a_time(embedded: SqliteStore, system: FakeServer) -> None:
    clock, inside, leave = Clock(), threading.Event(), threading.Event()
    sources = Sources(SealedKeep(embedded, MASTER_KEY))
    sources.add(source(system))

    def slow(_: object, reply: Any) -> Any:
        inside.set()
        leave.wait(20)
        return reply

    system.fail(slow, times=1)
    first = threading.Thread(target=pull_alone, args=(embedded, sources, ORG, "plan", "a", clock))
    first.start()
    assert inside.wait(20)
    asked = len(system.requests)
    with pytest.raises(SourceError, match="right now"):
        pull_alone(embedded, sources, ORG, "plan", "b", clock)
    jobs_on(embedded, clock).run("pulls")
    assert len(system.requests) == asked
    leave.set()
    first.join()
    assert len(plan(embedded)) == len(system.system.events)


def test_removing_a_source_takes_the_future_and_leaves_the_past(embedded: SqliteStore, system: FakeServer) -> None:
    clock = Clock()
    sources = Sources(SealedKeep(embedded, MASTER_KEY))
    clock.now = datetime(2026, 3, 3, 0, 0, tzinfo=UTC)
    sources.add(source(system))
    jobs_on(embedded, clock).run("pulls")
    before = plan(embedded)
    sources.remove(embedded, ORG, "plan", clock())
    assert [b.start for b in plan(embedded)] == [b.start for b in before if b.end <= clock()]
    assert 0 < len(plan(embedded)) < len(before)
    assert sources.of(ORG) == []


def test_settings_are_sealed_and_in_no_repr(embedded: SqliteStore, system: FakeServer, tmp_path: Path) -> None:
    sources = Sources(SealedKeep(embedded, MASTER_KEY))
    made = source(system)
    made.settings["token"] = "t0ps3cret"  # type: ignore[index]
    sources.add(made)
    assert "t0ps3cret" not in repr(sources.of(ORG))
    raw = embedded.list_kept("source", ORG)
    assert all(b"t0ps3cret" not in item.sealed for item in raw)
    with pytest.raises(ConfigurationError) as caught:
        sources.change(TimetableSource(org_id=ORG, id="plan", kind="rest", settings={"token": "t0ps3cret"}))
    assert "t0ps3cret" not in str(caught.value)
    assert sources.get(ORG, "plan").settings["token"] == "t0ps3cret"


# -- retention


def test_retention_runs_once_a_day_with_each_organisations_policy(embedded: SqliteStore) -> None:
    clock = Clock()
    keep = SealedKeep(embedded, MASTER_KEY)
    jobs = jobs_on(embedded, clock)
    keep.put("session", INSTALLATION, "old", {"x": 1}, expires_at=NOW - timedelta(days=1))
    keep.put("filter", ORG, "gone-1", {"user": "gone", "name": "x", "query": ""})
    Policies(keep).set_retention(ORG, RetentionPolicy(booking_days=10))
    start = NOW - timedelta(days=20)
    old = PlannedBooking(source="x", source_id="1", start=start, end=start + timedelta(hours=1), room_id="main-101")
    embedded.replace_bookings(ORG, "x", (start, start + timedelta(days=1)), [old], start)
    assert len(plan(embedded)) == 1
    assert jobs.run("retention")
    assert plan(embedded) == []
    assert keep.get("session", INSTALLATION, "old") is None
    assert keep.every("filter", ORG) == []
    noted = keep.get("job", INSTALLATION, "retention")
    assert noted is not None
    clock.forward(hours=5)
    jobs_on(embedded, clock).run("retention")  # another process, or this one after a restart
    assert keep.get("job", INSTALLATION, "retention") == noted
    clock.forward(hours=20)
    jobs.run("retention")
    later = keep.get("job", INSTALLATION, "retention")
    assert later is not None
    assert later.version == noted.version + 1


# -- whatever happens


def test_a_failure_is_counted_and_ends_nothing(
    embedded: SqliteStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    jobs = jobs_on(embedded, Clock())
    failing: list[Exception] = [StoreUnavailableError("MongoDB cannot answer"), RuntimeError("Quirina Zonnevanck")]

    def fail() -> list[Organisation]:
        raise failing[0]

    monkeypatch.setattr(embedded, "organisations", fail)
    assert not jobs.run("rollups")
    failing.pop(0)
    assert not jobs.run("pulls")
    monkeypatch.undo()
    assert jobs.run("rollups")
    assert jobs.run("pulls")
    assert (jobs.states["rollups"].failures, jobs.states["pulls"].failures) == (1, 1)
    assert "MongoDB cannot answer" in caplog.text
    assert "Quirina" not in caplog.text  # an error that is not ours may quote what it was given


def test_the_thread_works_and_ends_at_once_even_in_a_wait(embedded: SqliteStore, system: FakeServer) -> None:
    embedded.mark_stale(ORG, {("main-101", date(2026, 3, 4))})
    Sources(SealedKeep(embedded, MASTER_KEY)).add(source(system))
    system.fail(status(503, Retry_After="60"))
    jobs = Jobs(embedded, SealedKeep(embedded, MASTER_KEY))
    asked = threading.Event()
    jobs._patience["sleep"] = waiting(asked, jobs._wait)
    jobs.start()
    assert jobs.started
    assert jobs.alive
    assert asked.wait(20)
    jobs.stop()
    assert not jobs.alive
    assert embedded.stale_days(ORG) == []


def waiting(asked: threading.Event, wait: Callable[[float], None]) -> Callable[[float], None]:
    def sleep(seconds: float) -> None:
        asked.set()
        wait(seconds)

    return sleep


@pytest.mark.mongodb
def test_two_processes_on_one_mongodb_pull_once(mongodb_database: tuple[str, str], system: FakeServer) -> None:
    from analytics.store.mongodb import MongoStore

    uri, name = mongodb_database
    clock = Clock()
    with (
        MongoStore.open(uri, MASTER_KEY, database=name) as one,
        MongoStore.open(uri, MASTER_KEY, database=name) as two,
    ):
        fill(one)
        Sources(SealedKeep(one, MASTER_KEY)).add(source(system))
        both = [jobs_on(one, clock), jobs_on(two, clock)]
        threads = [threading.Thread(target=jobs.run, args=("pulls",)) for jobs in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        once = len(system.requests)
        for jobs in both:
            assert jobs.run("pulls")
            assert jobs.run("rollups")
            assert jobs.run("retention")
        assert len(system.requests) == once
        assert len(plan(two)) == len(system.system.events)
        assert two.stale_days(ORG) == []


# -- changes of master data


def test_only_days_that_differ_are_computed_again(embedded: SqliteStore) -> None:
    today = date(2026, 3, 4)
    room = embedded.room(ORG, "main-101")
    save_rooms(embedded, ORG, [room], today)
    assert embedded.stale_days(ORG) == []
    save_rooms(embedded, ORG, [with_capacity(room, 40, date(2026, 3, 1))], today)
    days = {(entry.id, entry.day) for entry in embedded.stale_days(ORG, 100_000)}
    assert {room_id for room_id, _ in days} == {"main-101"}
    assert min(day for _, day in days) == date(2026, 3, 1)
    embedded.clear_stale(ORG, embedded.stale_days(ORG, 100_000))
    (building,) = embedded.buildings(ORG)
    save_building(embedded, building, today)
    assert embedded.stale_days(ORG) == []
