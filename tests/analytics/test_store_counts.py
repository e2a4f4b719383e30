"""The contract of counts, on every store."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analytics.domain.model import HEALTH_BITS, SLOT_DTYPE, CountOutcome, StaleKind
from analytics.store.base import Store
from uplink.messages import CountRecord, Health

NEW, DUPLICATE, CONFLICT = CountOutcome.NEW, CountOutcome.DUPLICATE, CountOutcome.CONFLICT
T0 = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
NOW = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
FOREVER = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


def record(minute: int = 0, present: int | None = 12, sensor: str = "s1", **more: object) -> CountRecord:
    values: dict[str, object] = {"present_max": present, "coverage": 0.0 if present is None else 1.0, **more}
    return CountRecord(sensor_id=sensor, start=T0 + timedelta(minutes=minute), present=present, **values)  # type: ignore[arg-type]


def test_what_goes_in_comes_out_with_every_field(store: Store) -> None:
    records = [
        record(0, 12, present_max=15, entered=3, left=2, coverage=0.9731, health={Health.OK}),
        record(1, None, health={Health.BLOCKED, Health.MOVED}),
        record(2, 0),
        record(3, 100_000, entered=100_000, left=99_999, health={Health.OVERLOADED}),
    ]
    assert store.ingest("org", records, NOW) == [NEW] * 4
    slots = store.counts("org", ["s1"], *FOREVER)["s1"]
    assert slots.dtype == SLOT_DTYPE
    assert slots["start"].tolist() == [int(r.start.timestamp()) for r in records]
    assert slots["present"].tolist() == [12, -1, 0, 100_000]
    assert slots["present_max"].tolist() == [15, -1, 0, 100_000]
    assert slots["entered"].tolist() == [3, 0, 0, 100_000]
    assert slots["left"].tolist() == [2, 0, 0, 99_999]
    assert slots["coverage"].tolist() == [9731, 0, 10_000, 10_000]
    assert slots["seconds"].tolist() == [60] * 4
    assert slots["health"].tolist() == [1, HEALTH_BITS["blocked"] | HEALTH_BITS["moved"], 1, HEALTH_BITS["overloaded"]]


def test_every_health_flag_of_the_wire_has_its_bit() -> None:
    assert set(HEALTH_BITS) == set(Health)
    assert sum(HEALTH_BITS.values()) == 2 ** len(Health) - 1


def test_a_replay_is_all_duplicates_and_changes_nothing(store: Store) -> None:
    records = [record(m, m) for m in range(200)]
    assert store.ingest("org", records, NOW) == [NEW] * 200
    before = store.counts("org", ["s1"], *FOREVER)["s1"]
    assert store.ingest("org", list(reversed(records)), NOW) == [DUPLICATE] * 200
    assert np.array_equal(store.counts("org", ["s1"], *FOREVER)["s1"], before)
    assert store.conflicts("org", ["s1"], *FOREVER) == []


def test_another_value_for_a_slot_is_kept_apart_and_never_merged(store: Store) -> None:
    store.ingest("org", [record(0, 12)], NOW)
    later = NOW + timedelta(minutes=5)
    assert store.ingest("org", [record(0, 13), record(1, 5)], NOW) == [CONFLICT, NEW]
    assert store.ingest("org", [record(0, 13)], later) == [CONFLICT]
    assert store.ingest("org", [record(0, 14)], later) == [CONFLICT]
    assert store.counts("org", ["s1"], *FOREVER)["s1"]["present"].tolist() == [12, 5]
    first, second = store.conflicts("org", ["s1"], T0, T0 + timedelta(minutes=1))
    assert (first.sensor_id, first.start, first.times) == ("s1", T0, 2)
    assert (int(first.stored["present"]), int(first.offered["present"])) == (12, 13)
    assert (first.first_seen_at, first.last_seen_at) == (NOW, later)
    assert int(second.offered["present"]) == 14
    assert store.conflicts("org", ["s1"], T0 + timedelta(minutes=1), FOREVER[1]) == []


def test_the_first_of_two_values_in_one_batch_stays(store: Store) -> None:
    outcomes = store.ingest("org", [record(0, 1), record(0, 1), record(0, 2), record(0, 1)], NOW)
    assert outcomes == [NEW, DUPLICATE, CONFLICT, DUPLICATE]
    assert store.counts("org", ["s1"], *FOREVER)["s1"]["present"].tolist() == [1]


def test_the_key_is_the_start_whatever_the_length(store: Store) -> None:
    store.ingest("org", [record(0, 1)], NOW)
    assert store.ingest("org", [record(0, 1, seconds=30)], NOW) == [CONFLICT]


def test_organisations_do_not_see_each_other(store: Store) -> None:
    store.ingest("a", [record(0, 1)], NOW)
    assert store.ingest("b", [record(0, 2)], NOW) == [NEW]
    assert store.counts("a", ["s1"], *FOREVER)["s1"]["present"].tolist() == [1]
    assert store.counts("b", ["s1"], *FOREVER)["s1"]["present"].tolist() == [2]
    assert len(store.counts("c", ["s1"], *FOREVER)["s1"]) == 0
    assert store.conflicts("b", ["s1"], *FOREVER) == []


def test_a_range_is_half_open_and_holds_what_overlaps_it(store: Store) -> None:
    midnight = datetime(2026, 3, 3, tzinfo=UTC)
    records = [
        CountRecord(
            sensor_id="s1", start=midnight + timedelta(seconds=s), seconds=n, present=1, present_max=1, coverage=1
        )
        for s, n in ((-3600, 3600), (-60, 60), (0, 60), (60, 60))
    ]
    store.ingest("org", records, NOW)

    def starts(begin: int, end: int) -> list[int]:
        slots = store.counts("org", ["s1"], midnight + timedelta(seconds=begin), midnight + timedelta(seconds=end))[
            "s1"
        ]
        return [int(s - midnight.timestamp()) for s in slots["start"]]

    assert starts(0, 60) == [0]
    assert starts(0, 61) == [0, 60]
    assert starts(-1, 0) == [-3600, -60]
    assert starts(-1800, -1700) == [-3600]
    assert starts(120, 9999) == []
    assert starts(30, 31) == [0]


def test_many_sensors_and_days_at_once(store: Store) -> None:
    rng = np.random.default_rng(7)
    offered = {}
    for number in range(5):
        slots = np.zeros(3000, dtype=SLOT_DTYPE)
        slots["start"] = int(T0.timestamp()) + np.arange(3000) * 60
        slots["seconds"], slots["health"], slots["coverage"] = 60, 1, 10_000
        slots["present"] = slots["present_max"] = rng.integers(0, 300, 3000)
        offered[f"s{number}"] = slots
    assert all((codes == 0).all() for codes in store.ingest_slots("org", offered, NOW).values())
    stored = store.counts("org", [*offered, "silent"], *FOREVER)
    assert len(stored.pop("silent")) == 0
    for sensor, slots in stored.items():
        assert np.array_equal(slots, offered[sensor])
    latest = store.latest_counts("org", ["s1", "silent"])
    assert latest["s1"]["start"].tolist() == [int(T0.timestamp()) + 2999 * 60]
    assert len(latest["silent"]) == 0
    assert store.ingest("org", [], NOW) == []


def test_touched_days_are_stale_until_cleared_and_stay_stale_when_counts_came_meanwhile(store: Store) -> None:
    store.ingest("org", [record(0), record(24 * 60)], NOW)
    days = store.stale_days("org")
    assert [(d.kind, d.id, d.day.isoformat()) for d in days] == [
        (StaleKind.SENSOR, "s1", "2026-03-02"),
        (StaleKind.SENSOR, "s1", "2026-03-03"),
    ]
    store.ingest("org", [record(1)], NOW)
    store.clear_stale("org", days)
    (left,) = store.stale_days("org")
    assert left.day.isoformat() == "2026-03-02"
    store.clear_stale("org", [left])
    assert store.stale_days("org") == []
    store.ingest("org", [record(1), record(1, 99)], NOW)  # nothing new: nothing to compute
    assert store.stale_days("org") == []
    assert store.stale_days("other") == []


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_order_and_any_cutting_of_deliveries_ends_the_same(store: Store, data: st.DataObject) -> None:
    """Duplicated, reordered, split: the store ends with what was counted, each slot once."""
    org = uuid.uuid4().hex
    minutes = data.draw(st.lists(st.integers(-800, 800), min_size=1, max_size=40, unique=True))
    truth = [record(m, abs(m) % 50, sensor=f"s{m % 2}") for m in minutes]
    deliveries = data.draw(st.lists(st.sampled_from(truth), max_size=60)) + data.draw(st.permutations(truth))
    new = 0
    while deliveries:
        size = data.draw(st.integers(1, len(deliveries)))
        batch, deliveries = deliveries[:size], deliveries[size:]
        outcomes = store.ingest(org, batch, NOW)
        assert CONFLICT not in outcomes
        new += outcomes.count(NEW)
    assert new == len(truth)
    stored = store.counts(org, ["s0", "s1"], *FOREVER)
    got = {(s, int(row["start"]), int(row["present"])) for s, rows in stored.items() for row in rows}
    assert got == {(r.sensor_id, int(r.start.timestamp()), r.present) for r in truth}
    assert sum(len(rows) for rows in stored.values()) == len(truth)
    for rows in stored.values():
        assert (np.diff(rows["start"]) > 0).all()
