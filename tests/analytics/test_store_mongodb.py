"""What only the store on MongoDB promises: TLS off loopback, processes side by side, pulls committed by one write."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from analytics.domain.model import PlannedBooking, PullResult, Sensor
from analytics.store.errors import StaleWriteError, StoreConfigurationError
from analytics.store.mongodb import MongoStore
from analytics.store.mongodb.connection import connect
from analytics.store.mongodb.schema import MIGRATIONS
from tests.analytics.conftest import MASTER_KEY
from uplink.messages import CountRecord

T0 = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
WINDOW = (T0 - timedelta(days=1), T0 + timedelta(days=7))
FOREVER = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://db.example.org/",
        "mongodb://10.0.0.5:27017/",
        "mongodb://localhost,db.example.org/",
        "mongodb://[2001:db8::1]/",
        "mongodb://localhost.example.org/",
        "mongodb://db.example.org/?tls=false",
        "mongodb://db.example.org/?tls=true&tlsInsecure=true",
        "mongodb://db.example.org/?tls=true&tlsAllowInvalidCertificates=true",
        "mongodb://db.example.org/?tls=true&tlsAllowInvalidHostnames=true",
    ],
)
def test_a_server_elsewhere_is_refused_without_checked_tls(uri: str) -> None:
    with pytest.raises(StoreConfigurationError, match=r"TLS|certificate"):
        connect(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "mongodb://db.example.org/?tls=true",
        "mongodb://a.example.org,b.example.org/?tls=true&replicaSet=rs",
        "mongodb://localhost/",
        "mongodb://127.0.0.1:1,127.9.9.9:2/",
        "mongodb://[::1]:27017/",
        "mongodb://%2Frun%2Fmongodb.sock/",
    ],
)
def test_loopback_or_checked_tls_is_accepted(uri: str) -> None:
    client, database = connect(uri)
    assert database.name == "headroom"
    assert database.write_concern.document["w"] == "majority"
    client.close()


def test_without_tls_members_elsewhere_are_never_used() -> None:
    client, _ = connect("mongodb://localhost/?replicaSet=rs")
    selector = client.options.server_selector

    class Server:
        def __init__(self, host: str) -> None:
            self.address = (host, 27017)

    assert [s.address[0] for s in selector([Server("localhost"), Server("10.1.1.1"), Server("db.example.org")])] == [
        "localhost"
    ]
    client.close()


def test_a_bad_address_is_refused_without_its_password() -> None:
    for uri in (
        "mongodb://user:hunter2@/x",
        "mongodb://user:hunter2@localhost:99999/",
        "http://user:hunter2@localhost/",
    ):
        with pytest.raises(StoreConfigurationError) as error:
            connect(uri)
        assert "hunter2" not in str(error.value)


_PROCESS = """
import json, sys
from datetime import UTC, datetime, timedelta
uri, database, name, root = sys.argv[1:]
sys.path.insert(0, root)
from analytics.store.errors import StaleWriteError
from analytics.store.mongodb import MongoStore
from tests.analytics.test_store_mongodb import FOREVER, T0, plan, record
store = MongoStore.open(uri, bytes(range(32)), database=database)
print("ready", flush=True)
sys.stdin.readline()
tally = {"new": 0, "duplicate": 0, "conflict": 0, "leases": [], "pulls": 0, "lost_pulls": 0}
order = list(range(0, 240, 20)) if name == "a" else list(range(220, -1, -20))
for n in order:
    for outcome in store.ingest("org", [record(m) for m in range(n, n + 20)], T0):
        tally[outcome] += 1
for work in range(12):
    lease = store.acquire_lease(f"work-{work}", name, timedelta(hours=1), T0)
    if lease is not None:
        tally["leases"].append(lease.name)
for n in range(4):
    try:
        store.replace_bookings("org", "cal", FOREVER, plan(f"{name}{n}"), T0)
        tally["pulls"] += 1
    except StaleWriteError:
        tally["lost_pulls"] += 1
print(json.dumps(tally), flush=True)
"""


def record(minute: int) -> CountRecord:
    start = T0 + timedelta(minutes=minute)
    return CountRecord(sensor_id="s1", start=start, present=minute % 9, present_max=9, coverage=1.0)


def plan(title: str) -> list[PlannedBooking]:
    return [
        PlannedBooking(source="cal", source_id=str(i), start=T0, end=T0 + timedelta(hours=1), room_id="r1", title=title)
        for i in range(5)
    ]


@pytest.mark.mongodb
def test_two_processes_side_by_side(mongodb_database: tuple[str, str]) -> None:
    """They send the same minutes in opposite order, go for the same leases and pull the same source."""
    uri, name = mongodb_database
    root = str(Path(__file__).parents[2])
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _PROCESS, uri, name, who, root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for who in "ab"
    ]
    for process in processes:  # both at once: also their migrations raced
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    a, b = (json.loads(process.communicate(timeout=120)[0]) for process in processes)
    with MongoStore.open(uri, MASTER_KEY, database=name) as store:
        slots = store.counts("org", ["s1"], *FOREVER)["s1"]
        assert slots["present"].tolist() == [m % 9 for m in range(240)]  # none lost, none twice
        assert a["conflict"] == b["conflict"] == 0
        assert a["new"] + a["duplicate"] == b["new"] + b["duplicate"] == 240
        assert a["new"] + b["new"] <= 240  # a slot is new once; who lost a race may call its own a duplicate
        assert sorted(a["leases"] + b["leases"]) == sorted(f"work-{n}" for n in range(12))
        titles = {booking.title for booking in store.bookings("org", None, *FOREVER)}
        assert len(titles) == 1  # one pull, whole
        assert len(store.bookings("org", None, *FOREVER)) == 5
        assert a["pulls"] + b["pulls"] >= 1
        assert a["pulls"] + a["lost_pulls"] == b["pulls"] + b["lost_pulls"] == 4
        for number in range(5):
            history = store.booking_history("org", "cal", str(number))
            assert len(history) == a["pulls"] + b["pulls"]
            assert [h.superseded_at is None for h in history] == [False] * (len(history) - 1) + [True]


@pytest.mark.mongodb
def test_a_database_of_the_first_release_is_brought_forward(mongodb_database: tuple[str, str]) -> None:
    uri, name = mongodb_database
    with MongoStore.open(uri, MASTER_KEY, database=name) as store:
        store.ingest("org", [record(0)], T0)
        for collection in ("buildings", "rooms", "bookings", "rollups", "stale_rooms", "kept"):
            store.database[collection].drop()
        old = '{"org_id":"org","id":"s1","tunnel_ip":"10.8.0.2","key_generation":3}'
        store.database["sensors"].insert_one({"_id": "s1", "o": "org", "rev": 1, "doc": old})
        store.database["meta"].update_one({"_id": "schema"}, {"$set": {"version": 1}})
    with MongoStore.open(uri, MASTER_KEY, database=name) as store:
        assert store.database["meta"].find_one({"_id": "schema"})["version"] == len(MIGRATIONS)  # type: ignore[index]
        unique = [i for i in store.database["rollups"].list_indexes() if i.get("unique")]
        assert [list(i["key"]) for i in unique] == [["o", "r", "m", "v"]]
        assert len(store.counts("org", ["s1"], *FOREVER)["s1"]) == 1
        assert store.sensors("org") == [Sensor("org", "s1", tunnel_ip="10.8.0.2", key_generation=3)]
        assert store.sensors_on_board("org", "s1") == []
        store.add_sensor(Sensor("org", "s1-rear", board="s1"))
        assert [camera.id for camera in store.sensors_on_board("org", "s1")] == ["s1-rear"]


@pytest.mark.mongodb
def test_a_process_killed_during_writes_leaves_whole_pulls_and_no_lost_count(
    mongodb_database: tuple[str, str],
) -> None:
    uri, name = mongodb_database
    root, done = str(Path(__file__).parents[2]), 0
    for pause in (0.05, 0.2):
        writer = subprocess.Popen(
            [sys.executable, "-c", _ENDLESS, uri, name, str(done), root], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        first = writer.stdout.readline()
        time.sleep(pause)
        writer.kill()
        acknowledged = int((writer.stdout.read().split() or [first])[-1])
        writer.wait()
        with MongoStore.open(uri, MASTER_KEY, database=name) as store:
            slots = store.counts("org", ["s1"], *FOREVER)["s1"]
            assert len(slots) in (acknowledged * 7, (acknowledged + 1) * 7)
            titles = [booking.title for booking in store.bookings("org", None, *FOREVER)]
            assert len(titles) == 5
            assert len(set(titles)) == 1
            assert int(titles[0]) in (acknowledged - 1, acknowledged)
        done = acknowledged


_ENDLESS = """
import sys
uri, database, done, root = sys.argv[1:]
sys.path.insert(0, root)
from analytics.store.mongodb import MongoStore
from tests.analytics.test_store_mongodb import FOREVER, T0, plan, record
store = MongoStore.open(uri, bytes(range(32)), database=database)
n = int(done)
while True:
    store.ingest("org", [record(m) for m in range(n * 7, n * 7 + 7)], T0)
    store.replace_bookings("org", "cal", FOREVER, plan(str(n)), T0)
    n += 1
    print(n, flush=True)
"""


@pytest.mark.mongodb
def test_what_a_dead_pull_left_behind_is_invisible_and_swept(mongodb_database: tuple[str, str]) -> None:
    uri, name = mongodb_database
    with MongoStore.open(uri, MASTER_KEY, database=name) as store:
        store.replace_bookings("org", "cal", WINDOW, plan("first"), T0)
        real = store.database["plan_sources"]
        dead = _DiesBeforeTheCommit(store)
        with pytest.raises(RuntimeError, match="power cut"):
            dead.replace_bookings("org", "cal", WINDOW, plan("dead")[:2], T0 + timedelta(hours=1))
        assert store.database["bookings"].count_documents({"rev": 2}) == 5  # it had written all it wanted
        assert [b.title for b in store.bookings("org", None, *WINDOW)] == ["first"] * 5
        assert [b.superseded_at for b in store.revisions("org", None, *WINDOW)] == [None] * 5
        result = store.replace_bookings("org", "cal", WINDOW, plan("second"), T0 + timedelta(hours=2))
        assert result == PullResult(changed=5)
        assert [b.title for b in store.bookings("org", None, *WINDOW)] == ["second"] * 5
        assert store.database["bookings"].count_documents({"rev": 2}) == 0
        assert [h.title for h in store.booking_history("org", "cal", "0")] == ["first", "second"]
        assert real.find_one({"source": "cal"})["aborted"] == [2]  # type: ignore[index]


@pytest.mark.mongodb
def test_a_pull_that_wakes_up_late_changes_nothing(mongodb_database: tuple[str, str]) -> None:
    uri, name = mongodb_database
    with MongoStore.open(uri, MASTER_KEY, database=name) as store:
        store.replace_bookings("org", "cal", WINDOW, plan("first"), T0)
        late = _OvertakenBeforeItWrites(store)
        with pytest.raises(StaleWriteError, match="another pull"):
            late.replace_bookings("org", "cal", WINDOW, [], T0 + timedelta(hours=1))
        assert [b.title for b in store.bookings("org", None, *WINDOW)] == ["overtaker"] * 5
        store.replace_bookings("org", "cal", WINDOW, plan("third"), T0 + timedelta(hours=3))
        titles = [[h.title for h in store.booking_history("org", "cal", str(n))] for n in range(5)]
        assert titles == [["first", "overtaker", "third"]] * 5


class _DiesBeforeTheCommit(MongoStore):
    def __init__(self, store: MongoStore) -> None:
        super().__init__(store._client, store.database, store.sealer)

    def _write(self, *arguments: object) -> None:  # type: ignore[override]
        super()._write(*arguments)  # type: ignore[arg-type]
        raise RuntimeError("power cut")


class _OvertakenBeforeItWrites(MongoStore):
    def __init__(self, store: MongoStore) -> None:
        super().__init__(store._client, store.database, store.sealer)
        self._faster = store

    def _write(self, *arguments: object) -> None:  # type: ignore[override]
        self._faster.replace_bookings("org", "cal", WINDOW, plan("overtaker"), T0 + timedelta(hours=2))
        super()._write(*arguments)  # type: ignore[arg-type]
