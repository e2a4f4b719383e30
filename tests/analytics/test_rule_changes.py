"""Other rules: the past is computed again, once, and the audit log says which."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path

import pytest

from analytics.accounts.audit import AuditLog
from analytics.domain.model import Building, Organisation, Room
from analytics.domain.plan import MatchRules
from analytics.jobs import Jobs
from analytics.rule_changes import RuleChanges
from analytics.store.kept import SealedKeep
from analytics.store.sqlite import SqliteStore

MASTER = bytes(range(32))
NOW = datetime(2026, 9, 30, 22, 30, tzinfo=UTC)
"""Already the first of October in Amsterdam."""
RULES = MatchRules()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    with SqliteStore.open(tmp_path / "rules.db", MASTER) as opened:
        for org in ("campus", "other"):
            opened.put_organisation(Organisation(org, org))
            opened.put_buildings(org, [Building(org, name, name) for name in ("arts", "hall")])
            opened.put_rooms(
                org, [Room(org, "a1", "arts", "1"), Room(org, "a2", "arts", "2"), Room(org, "h1", "hall", "1")]
            )
        yield opened


def start(store: SqliteStore, **by_building: MatchRules) -> RuleChanges:
    """A process with rules of its own."""
    keep = SealedKeep(store, MASTER)
    return RuleChanges(store, keep, lambda building: by_building.get(building.id, RULES), lambda: NOW)


def stale(store: SqliteStore, org: str) -> dict[str, list[date]]:
    found: dict[str, list[date]] = {}
    for mark in store.stale_days(org):
        found.setdefault(mark.id, []).append(mark.day)
    return found


def judged(late: int, _: Building) -> MatchRules:
    return replace(RULES, late=late)


def log(store: SqliteStore, org: str) -> list[tuple[str, dict[str, object]]]:
    return [(entry.action, dict(entry.detail)) for entry in AuditLog(SealedKeep(store, MASTER)).entries(org)]


def test_the_first_start_changes_nothing(store: SqliteStore) -> None:
    assert start(store).follow() == 0
    assert stale(store, "campus") == {}
    assert log(store, "campus") == []


def test_one_building_with_other_rules(store: SqliteStore) -> None:
    start(store).follow()
    quarter = replace(RULES, start_offset=15, breaks=((630, 645),))
    again = start(store, arts=quarter)
    assert again.follow() == 2, "both organisations have such a building"
    assert set(stale(store, "campus")) == {"a1", "a2"}
    days = stale(store, "campus")["a1"]
    assert (min(days), max(days), len(days)) == (date(2025, 10, 1), date(2026, 10, 1), 366)
    assert log(store, "campus") == [
        ("rules.change", {"building": "arts", "breaks": [[], [[630, 645]]], "start_offset": [0, 15]})
    ]
    assert again.follow() == 0
    assert start(store, arts=quarter).follow() == 0, "the next start finds nothing new"
    assert len(log(store, "campus")) == 1


def test_back_again_is_a_change_too(store: SqliteStore) -> None:
    for rules in (RULES, replace(RULES, late=5), RULES):
        start(store, arts=rules, hall=rules).follow()
    assert [detail["late"] for _, detail in reversed(log(store, "campus"))] == [[10, 5], [10, 5], [5, 10], [5, 10]]


def test_a_building_that_comes_while_the_service_runs(store: SqliteStore) -> None:
    running = start(store)
    running.follow()
    store.put_buildings("campus", [Building("campus", "new", "New")])
    store.put_rooms("campus", [Room("campus", "n1", "new", "1")])
    assert running.follow() == 0
    assert start(store, new=replace(RULES, late=5)).follow() == 1
    assert set(stale(store, "campus")) == {"n1"}


def test_the_scheduled_work_follows_and_computes(store: SqliteStore) -> None:
    keep = SealedKeep(store, MASTER)
    for late in (10, 5):
        jobs = Jobs(store, keep, clock=lambda: NOW, rules_of=partial(judged, late))
        assert jobs.run("rollups")
    assert [detail["building"] for _, detail in log(store, "campus")] == ["hall", "arts"]
    assert stale(store, "campus") == {}, "the days that were marked are computed"
