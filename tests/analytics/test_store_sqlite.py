"""What only the embedded store promises: one encrypted file, one process, kill -9 at any moment, schemas forward."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlcipher3 import dbapi2 as sqlcipher

from analytics.domain.model import SLOT_DTYPE, PlannedBooking, Sensor
from analytics.store.errors import StoreConfigurationError, StoreError, StoreLockedError, StoreUnavailableError
from analytics.store.sealing import AesNameSealer, file_key
from analytics.store.sqlite import SqliteStore
from analytics.store.sqlite.migrations import MIGRATIONS
from tests.analytics.conftest import MASTER_KEY
from uplink.messages import CountRecord

HERE = Path(__file__).parent
T0 = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
FOREVER = (datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC))
CANARY = "Zz Canary-Naam"


def records(n: int, sensor: str = "s1", first: int = 0) -> list[CountRecord]:
    return [
        CountRecord(sensor_id=sensor, start=T0 + timedelta(minutes=m), present=m % 9, present_max=9, coverage=1.0)
        for m in range(first, first + n)
    ]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "headroom.db"


def test_no_plain_text_reaches_the_disk_and_only_the_owner_can_read_it(path: Path) -> None:
    with SqliteStore.open(path, MASTER_KEY) as store:
        store.add_sensor(Sensor("org", "canary-sensor", name="plain text canary"))
        booking = PlannedBooking(source="s", source_id="1", start=T0, end=T0, title="canary-title", booked_by=CANARY)
        store.replace_bookings("org", "s", FOREVER, [booking], T0)
        files = [p for p in path.parent.iterdir() if p.is_file()]
        assert {p.name for p in files} >= {"headroom.db", "headroom.db-wal"}
        for file in files:
            content = file.read_bytes()
            for word in (b"canary", b"Canary", b"CREATE TABLE", b"SQLite format"):
                assert word not in content, (file.name, word)
            assert file.stat().st_mode & 0o077 == 0, file.name


def test_the_name_of_a_booker_is_sealed_even_for_who_has_the_files_key(path: Path) -> None:
    with SqliteStore.open(path, MASTER_KEY) as store:
        booking = PlannedBooking(source="s", source_id="1", start=T0, end=T0, booked_by=CANARY)
        store.replace_bookings("org", "s", FOREVER, [booking], T0)
        with store.connections.read() as db:
            for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                assert CANARY not in repr(db.execute(f"SELECT * FROM {table}").fetchall())
            (sealed,) = db.execute("SELECT sealed_name FROM bookings").fetchone()
        assert store.sealer.open("org", "s\x001", sealed) == CANARY
        for org, key in (("rival", "s\x001"), ("org", "s\x002")):
            with pytest.raises(StoreConfigurationError):
                store.sealer.open(org, key, sealed)
        with pytest.raises(StoreConfigurationError):
            AesNameSealer(bytes(32)).open("org", "s\x001", sealed)
        assert sealed != store.sealer.seal("org", "s\x001", CANARY)


def test_another_key_is_refused_without_a_trace_of_it(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    SqliteStore.open(path, MASTER_KEY).close()
    wrong = bytes(reversed(range(32)))
    with pytest.raises(StoreConfigurationError, match="does not open with this key") as error:
        SqliteStore.open(path, wrong)
    assert file_key(wrong).hex() not in str(error.value)
    assert capfd.readouterr() == ("", "")
    with pytest.raises(ValueError, match="at least 32"):
        SqliteStore.open(path, b"short")
    SqliteStore.open(path, MASTER_KEY).close()  # the refused one left no lock


def test_a_file_that_is_no_store_is_refused_and_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"precious " * 1000)
    with pytest.raises(StoreConfigurationError):
        SqliteStore.open(path, MASTER_KEY)
    assert path.read_bytes() == b"precious " * 1000


def test_a_second_process_is_told_who_has_the_file(path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from analytics.store.sqlite import SqliteStore\n"
        "SqliteStore.open(Path(sys.argv[1]), bytes(range(32)))"
    )
    with SqliteStore.open(path, MASTER_KEY):
        with pytest.raises(StoreLockedError):
            SqliteStore.open(path, MASTER_KEY)
        second = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
        assert second.returncode == 1
        assert f"in use by process {os.getpid()}" in second.stderr
        assert "MongoDB" in second.stderr
    third = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
    assert third.returncode == 0, third.stderr


def test_threads_write_and_read_at_once(path: Path) -> None:
    with SqliteStore.open(path, MASTER_KEY) as store:
        failures: list[BaseException] = []

        def work(number: int) -> None:
            try:
                for part in range(10):
                    store.ingest("org", records(30, f"s{number % 2}", part * 30), T0)
                    assert len(store.counts("org", [f"s{number % 2}"], *FOREVER)[f"s{number % 2}"]) >= part * 30
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert [len(s) for s in store.counts("org", ["s0", "s1"], *FOREVER).values()] == [300, 300]


def test_a_closed_store_says_so(path: Path) -> None:
    store = SqliteStore.open(path, MASTER_KEY)
    store.close()
    store.close()
    with pytest.raises(StoreUnavailableError, match="closed"):
        store.ping()
    with pytest.raises(StoreUnavailableError, match="closed"):
        store.ingest("org", records(1), T0)


def test_a_full_disk_is_unavailable_and_stores_nothing_halfway(path: Path) -> None:
    with SqliteStore.open(path, MASTER_KEY) as store:
        store.ingest("org", records(10), T0)
        with store.connections.write() as db:
            db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")
        many = [r for n in range(200) for r in records(20, f"t{n}")]
        with pytest.raises(StoreUnavailableError, match="full"):
            store.ingest("org", many, T0)
        assert len(store.counts("org", ["t0"], *FOREVER)["t0"]) == 0
        with store.connections.write() as db:
            db.execute("PRAGMA max_page_count = 1000000")
        assert len(store.ingest("org", many, T0)) == 4000


_WRITER = """
import sys
from datetime import timedelta
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from analytics.store.sqlite import SqliteStore
from analytics.domain.model import PlannedBooking
from tests.analytics.test_store_sqlite import FOREVER, T0, records
store = SqliteStore.open(Path(sys.argv[1]), bytes(range(32)))
n = int(sys.argv[2])
while True:
    store.ingest("org", records(7, "s1", n * 7), T0)
    at = T0 + timedelta(minutes=n)
    plan = [PlannedBooking(source="cal", source_id=str(i), start=at, end=at) for i in range(5)]
    store.replace_bookings("org", "cal", FOREVER, plan, T0)
    n += 1
    print(n, flush=True)
"""


@pytest.mark.faults
def test_kill_9_during_writes_loses_nothing_acknowledged(path: Path) -> None:
    """Killed at random moments, the store opens, holds all that was acknowledged, and only whole writes."""
    rounds = 40 if os.environ.get("HEADROOM_LONG") else 4
    rng, done = random.Random(20260302), 0
    for _ in range(rounds):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path), str(done), str(HERE.parents[1])],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert writer.stdout is not None
        first = writer.stdout.readline()  # it is writing
        time.sleep(rng.uniform(0.0, 0.15))
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split()
        writer.wait()
        acknowledged = int((rest or [first])[-1])
        with SqliteStore.open(path, MASTER_KEY) as store:
            with store.connections.read() as db:
                assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                assert db.execute("PRAGMA cipher_integrity_check").fetchall() == []
            slots = store.counts("org", ["s1"], *FOREVER)["s1"]
            assert len(slots) in (acknowledged * 7, (acknowledged + 1) * 7)
            assert slots["present"].tolist() == [m % 9 for m in range(len(slots))]
            plan = store.bookings("org", None, *FOREVER)
            assert len(plan) == 5
            assert len({b.start for b in plan}) == 1
            assert plan[0].start in (T0 + timedelta(minutes=acknowledged - 1), T0 + timedelta(minutes=acknowledged))
        done = acknowledged


def create_v1(path: Path) -> None:
    """A file as the first release wrote it, from its frozen SQL."""
    path.parent.mkdir(parents=True)
    db = sqlcipher.connect(str(path), isolation_level=None)
    db.execute(f"PRAGMA key = \"x'{file_key(MASTER_KEY).hex()}'\"")
    db.executescript((HERE / "fixtures" / "store_v1.sql").read_text())
    db.close()


def test_a_file_of_the_first_release_is_brought_forward_with_all_it_holds(path: Path) -> None:
    create_v1(path)
    with SqliteStore.open(path, MASTER_KEY) as store:
        sensor = store.find_sensor("s1")
        assert sensor is not None
        assert (sensor.org_id, sensor.tunnel_ip, sensor.key_generation) == ("org", "10.8.0.2", 3)
        assert sensor.board is None
        store.add_sensor(Sensor("org", "s1-rear", board="s1"))
        assert [camera.id for camera in store.sensors_on_board("org", "s1")] == ["s1-rear"]
        slots = store.counts("org", ["s1"], *FOREVER)["s1"]
        assert slots["present"].tolist() == [3, 4, 5]
        assert store.organisation("org").name == "School"
        assert [c.id for c in store.enrolments("org")] == ["c1"]
        (conflict,) = store.conflicts("org", ["s1"], *FOREVER)
        assert (int(conflict.stored["present"]), int(conflict.offered["present"])) == (3, 99)
        assert store.acquire_lease("pull", "me", timedelta(minutes=1), T0) is None
        assert store.ingest("org", records(4), T0 + timedelta(days=1))[3:] == ["new"]
        assert store.rooms("org") == []
        with store.connections.read() as db:
            assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
    SqliteStore.open(path, MASTER_KEY).close()


def test_the_v1_fixture_is_what_the_first_migration_makes(path: Path) -> None:
    """The frozen file and the first step agree: nobody changed a released step."""
    create_v1(path)
    db = sqlcipher.connect(":memory:", isolation_level=None)
    db.executescript(MIGRATIONS[0])
    old = sqlcipher.connect(str(path), isolation_level=None)
    old.execute(f"PRAGMA key = \"x'{file_key(MASTER_KEY).hex()}'\"")
    ask = "SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"
    assert old.execute(ask).fetchall() == db.execute(ask).fetchall()


def test_a_failed_step_leaves_the_file_as_it_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create_v1(path)
    broken = (MIGRATIONS[0], MIGRATIONS[1] + "\nCREATE TABLE rooms (org TEXT) STRICT;\n")
    with monkeypatch.context() as patch:
        patch.setattr("analytics.store.sqlite.migrations.MIGRATIONS", broken)
        with pytest.raises(StoreError, match="rooms"):
            SqliteStore.open(path, MASTER_KEY)
    with SqliteStore.open(path, MASTER_KEY) as store:
        assert store.rooms("org") == []


def test_a_newer_file_is_refused(path: Path) -> None:
    with SqliteStore.open(path, MASTER_KEY) as store, store.connections.write() as db:
        db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    with pytest.raises(StoreConfigurationError, match="start the newer program"):
        SqliteStore.open(path, MASTER_KEY)


def test_removing_gives_space_back(path: Path) -> None:
    rng = np.random.default_rng(1)
    slots = np.zeros(200 * 1440, dtype=SLOT_DTYPE)
    slots["start"], slots["seconds"] = int(T0.timestamp()) // 86_400 * 86_400 + np.arange(len(slots)) * 60, 60
    slots["present"] = rng.integers(0, 200, len(slots))
    with SqliteStore.open(path, MASTER_KEY) as store:
        store.ingest_slots("org", {"s1": slots}, T0)
        store.connections.reclaim()
        before = path.stat().st_size
        assert store.expire_counts("org", (T0 + timedelta(days=190)).date()) == 190
        assert path.stat().st_size < before / 2
