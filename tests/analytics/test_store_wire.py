"""What the store on MongoDB demands on the wire, and what becomes of faults: real pymongo, scripted peer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from analytics.domain.model import DayRollup, PlannedBooking
from analytics.store import packing
from analytics.store.errors import StaleWriteError, StoreConfigurationError, StoreError, StoreUnavailableError
from analytics.store.mongodb import MongoStore
from tests.analytics.conftest import MASTER_KEY
from tests.analytics.wire_peer import WirePeer, found, hang_up, late, wire_peer
from uplink.messages import CountRecord

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
RECORD = CountRecord(sensor_id="s1", start=NOW, present=3, present_max=4, coverage=1.0)
WINDOW = (NOW, NOW + timedelta(days=7))
NOT_PRIMARY: dict[str, Any] = {"ok": 0.0, "code": 10107, "codeName": "NotWritablePrimary", "errmsg": "not primary"}
NOT_PRIMARY["errorLabels"] = ["RetryableWriteError"]  # servers say so themselves since 4.4
UNCONFIRMED: dict[str, Any] = {
    "code": 64,
    "codeName": "WriteConcernFailed",
    "errmsg": "waiting for replication timed out",
}
TAKEN: dict[str, Any] = {"index": 0, "code": 11000, "errmsg": "E11000 duplicate key"}


@pytest.fixture
def peer() -> Iterator[WirePeer]:
    with wire_peer() as running:
        yield running


@pytest.fixture
def store(peer: WirePeer) -> Iterator[MongoStore]:
    options = {"serverSelectionTimeoutMS": 1500, "socketTimeoutMS": 400, "heartbeatFrequencyMS": 500}
    with MongoStore.open(peer.uri, MASTER_KEY, database="test", **options) as opened:
        peer.seen.clear()
        yield opened


def bucket(present: int, rev: int = 1) -> dict[str, Any]:
    """A stored day with one slot at the record's minute."""
    slots = packing.slots_from_records([RECORD.model_copy(update={"present": present})])["s1"][0]
    day = int(NOW.timestamp()) // 86_400
    return {"_id": f"org\x1fs1\x1f{day}", "rev": rev, "data": packing.pack_slots(slots)}


def test_every_read_and_write_is_of_the_majority_and_every_hot_query_carries_its_shard_key(
    peer: WirePeer, store: MongoStore
) -> None:
    store.ingest("org", [RECORD], NOW)
    peer.on("find", found(bucket(9, rev=4)))
    store.ingest("org", [RECORD, RECORD.model_copy(update={"start": NOW + timedelta(minutes=1)})], NOW)
    store.counts("org", ["s1", "s2"], *WINDOW)
    store.bookings("org", ["r1"], *WINDOW)
    store.put_rollups("org", [DayRollup("r1", NOW.date(), "v1", {"m": np.ones(24)})])
    store.rollups("org", ["r1"], NOW.date(), NOW.date() + timedelta(days=1), "v1", ["m"])
    store.mark_stale("org", [("r1", NOW.date())])
    shard_keys = {
        "counts": {"o", "s", "d"},
        "conflicts": {"o", "s", "t"},
        "bookings": {"o", "r", "b"},
        "rollups": {"o", "r", "m"},
        "stale_rooms": {"o", "r", "d"},
    }
    touched = set()
    for command in peer.seen:
        name = next(iter(command))
        collection = command[name]
        if name == "find":
            assert command["readConcern"]["level"] == "majority"
            queries = [command["filter"]]
        elif name in {"insert", "update"}:
            assert command["writeConcern"]["w"] == "majority"
            assert "txnNumber" in command  # retryable
            queries = command["documents"] if name == "insert" else [u["q"] for u in command["updates"]]
        else:
            continue
        for query in queries:
            if collection in shard_keys:
                assert shard_keys[collection] <= query.keys(), (name, collection, query)
                touched.add(collection)
            assert "org" in (query.get("o"), query.get("_id")), (name, collection, query)
    assert touched == shard_keys.keys()


@pytest.mark.faults
@pytest.mark.parametrize("fault", [NOT_PRIMARY, hang_up, late(1.0)], ids=["not primary", "dropped", "slow"])
def test_a_fault_that_passes_is_retried_as_the_same_write(peer: WirePeer, store: MongoStore, fault: Any) -> None:
    peer.on("insert", fault)
    assert store.ingest("org", [RECORD], NOW) == ["new"]
    first, second = peer.commands("insert")
    assert first["txnNumber"] == second["txnNumber"]
    assert first["lsid"] == second["lsid"]
    assert first["documents"] == second["documents"]


@pytest.mark.faults
@pytest.mark.parametrize("fault", [NOT_PRIMARY, hang_up, late(1.0)], ids=["not primary", "dropped", "slow"])
def test_a_fault_that_stays_is_unavailable_and_nothing_is_acknowledged(
    peer: WirePeer, store: MongoStore, fault: Any
) -> None:
    peer.on("insert", *[fault] * 6)
    begin = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        store.ingest("org", [RECORD], NOW)
    assert time.monotonic() - begin < 6


@pytest.mark.faults
def test_what_the_majority_did_not_confirm_is_not_acknowledged(peer: WirePeer, store: MongoStore) -> None:
    peer.on("insert", {"ok": 1.0, "n": 1, "writeConcernError": UNCONFIRMED})
    with pytest.raises(StoreUnavailableError, match="majority"):
        store.ingest("org", [RECORD], NOW)
    peer.on("update", {"ok": 1.0, "n": 1, "nModified": 1, "writeConcernError": UNCONFIRMED})
    with pytest.raises(StoreUnavailableError):
        store.activate_enrolment("c1", NOW)


@pytest.mark.faults
def test_who_loses_a_race_for_a_bucket_reads_again_and_merges(peer: WirePeer, store: MongoStore) -> None:
    """First nobody had the day; then somebody else stored it; then changed it once more."""
    later = RECORD.model_copy(update={"start": NOW + timedelta(minutes=1)})
    peer.on("find", found(), found(), found(bucket(3, rev=1)), found(), found(bucket(3, rev=2)))
    peer.on("insert", {"ok": 1.0, "n": 0, "writeErrors": [TAKEN]})
    peer.on("update", {"ok": 1.0, "n": 0, "nModified": 0})
    assert store.ingest("org", [RECORD, later], NOW) == ["duplicate", "new"]
    asked = [u["q"]["rev"] for command in peer.commands("update") for u in command["updates"]]
    assert asked == [1, 2]


@pytest.mark.faults
def test_a_race_without_end_is_unavailable(peer: WirePeer, store: MongoStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("analytics.store.mongodb.part.pause", lambda attempt: None)
    peer.on("insert", *[{"ok": 1.0, "n": 0, "writeErrors": [TAKEN]}] * 50)
    with pytest.raises(StoreUnavailableError, match="faster"):
        store.ingest("org", [RECORD], NOW)


@pytest.mark.faults
def test_a_pull_that_dies_before_its_commit_was_never_there(peer: WirePeer, store: MongoStore) -> None:
    state = {"_id": "org\x1fcal", "o": "org", "source": "cal", "next": 4, "current": 2, "aborted": [1]}
    plan = [PlannedBooking(source="cal", source_id="b1", start=NOW, end=NOW, room_id="r1")]
    for fault, error in ((hang_up, StoreUnavailableError), ({"ok": 1.0, "n": 0, "nModified": 0}, StaleWriteError)):
        peer.recover()
        peer.on("findAndModify", {"ok": 1.0, "value": {**state, "recorded_at": NOW}})
        marked = {"ok": 1.0, "n": 1, "nModified": 1}
        peer.on("update", marked, *[fault] * 4)
        with pytest.raises(error):
            store.replace_bookings("org", "cal", WINDOW, plan, NOW)
        (written,) = peer.commands("insert")[0]["documents"]
        assert written["rev"] == 4
        (commit,) = peer.commands("update")[1]["updates"]  # the first marked the stale day
        assert commit["q"] == {"_id": "org\x1fcal", "current": 2, "next": 4}
        assert commit["u"]["$set"]["current"] == 4
        assert commit["u"]["$set"]["aborted"] == [1, 3]


@pytest.mark.parametrize("code", [13, 18, 8000])
def test_a_refused_user_is_a_matter_of_configuration(peer: WirePeer, store: MongoStore, code: int) -> None:
    peer.on("find", {"ok": 0.0, "code": code, "errmsg": "canary"})
    with pytest.raises(StoreConfigurationError, match=str(code)) as error:
        store.rooms("org")
    assert "canary" not in str(error.value)


def test_no_text_of_the_server_reaches_the_error(peer: WirePeer, store: MongoStore) -> None:
    peer.on("insert", {"ok": 1.0, "n": 0, "writeErrors": [{"index": 0, "code": 121, "errmsg": "Zz Canary-Naam"}]})
    with pytest.raises(StoreError, match="121") as error:
        store.ingest("org", [RECORD], NOW)
    assert "Canary" not in str(error.value)


def test_nobody_there_is_unavailable_within_the_time_given(peer: WirePeer) -> None:
    peer.shutdown()
    peer.server_close()
    begin = time.monotonic()
    with pytest.raises(StoreUnavailableError):
        MongoStore.open(peer.uri, MASTER_KEY, serverSelectionTimeoutMS=300)
    assert time.monotonic() - begin < 3


def test_a_newer_schema_is_refused(peer: WirePeer) -> None:
    peer.on("find", found({"_id": "schema", "version": 999}))
    with pytest.raises(StoreConfigurationError, match="start the newer program"):
        MongoStore.open(peer.uri, MASTER_KEY)
