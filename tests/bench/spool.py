"""The spool: records a second beside plain SQLite, bytes to the disk, and a week's backlog over loopback.

Disks of shared machines give a number of syncs that changes from minute to minute: read the ratios. Both sides are
measured in turns, five times, and the medians are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from uplink.keys import SensorKey
from uplink.messages import CountRecord
from uplink.sender import Result, Sender
from uplink.spool import Spool, SpoolSettings
from uplink.testing import ReferenceService, serving
from uplink.transport import RequestsTransport

WEEK = 7 * 24 * 60
SENSOR = "hall-3"


def emit(name: str, value: float, unit: str, peer: str = "", peer_value: float | None = None) -> None:
    line: dict[str, object] = {"name": name, "value": round(value, 3), "unit": unit}
    if peer_value is not None:
        line |= {"peer": peer, "peer_value": round(peer_value, 3), "ratio": round(value / peer_value, 3)}
    print(json.dumps(line), flush=True)


def records(count: int, first: int = 0) -> list[CountRecord]:
    start = datetime(2026, 11, 22, tzinfo=UTC)
    return [
        CountRecord(
            sensor_id=SENSOR,
            start=start + timedelta(minutes=minute),
            present=minute % 97,
            present_max=minute % 97 + 2,
            entered=minute % 7,
            left=minute % 5,
            coverage=1.0,
        )
        for minute in range(first, first + count)
    ]


def written_bytes() -> int:
    """Bytes written to the block device below this folder, by anyone: the file system's journal is in it."""
    device = os.stat(".").st_dev
    try:
        return 512 * int(Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text().split()[6])
    except (OSError, IndexError):
        return 0  # not on a block device of its own: no figure


def spool_writes(folder: Path, items: list[CountRecord], group: int) -> tuple[float, float]:
    """Records a second, and bytes to the disk per record."""
    service = ReferenceService()
    with Spool(folder, SENSOR, service.seal_keys.public_key, SpoolSettings(max_records=10**6)) as spool:
        before, begin = written_bytes(), time.perf_counter()
        for at in range(0, len(items), group):
            assert spool.append(items[at : at + group])
        return len(items) / (time.perf_counter() - begin), (written_bytes() - before) / len(items)


def sqlite_writes(path: Path, items: list[CountRecord], group: int) -> tuple[float, float]:
    """The same with a plain, unsealed SQLite table in WAL mode, synchronous=FULL."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE spool (seq INTEGER PRIMARY KEY, body BLOB)")
    before, begin = written_bytes(), time.perf_counter()
    for at in range(0, len(items), group):
        database.execute("BEGIN")
        for item in items[at : at + group]:
            database.execute("INSERT INTO spool (body) VALUES (?)", (item.model_dump_json().encode(),))
        database.execute("COMMIT")
    rate, size = len(items) / (time.perf_counter() - begin), (written_bytes() - before) / len(items)
    database.close()
    return rate, size


Measure = Callable[[Path, list[CountRecord], int], tuple[float, float]]


def compare(measure: Measure, other: Measure, items: list[CountRecord], group: int, rounds: int) -> list[float]:
    """The median rate and the least bytes of both: whatever else writes to the disk only adds."""
    results: list[list[tuple[float, float]]] = [[], []]
    with tempfile.TemporaryDirectory(dir=".") as name:
        for turn in range(rounds):
            for column in (0, 1) if turn % 2 else (1, 0):  # who goes first meets another disk
                each = (measure, other)[column]
                results[column].append(each(Path(name) / f"{column}-{turn}-{group}", items, group))
    return [
        figure
        for column in results
        for figure in (statistics.median(rate for rate, _ in column), min(size for _, size in column))
    ]


def backlog(restarted: bool) -> float:
    """Seconds for a week's records of one sensor, to a service in the same process that keeps them in RAM."""
    service = ReferenceService()
    with tempfile.TemporaryDirectory(dir=".") as name, serving(service) as url:
        spool = Spool(Path(name) / "spool", SENSOR, service.seal_keys.public_key)
        spool.append(records(WEEK))
        if restarted:
            spool.close()
            spool = Spool(Path(name) / "spool", SENSOR, service.seal_keys.public_key)
        key = service.keys.sensor_key(SENSOR)
        assert isinstance(key, SensorKey)
        sender = Sender(spool, url, key, RequestsTransport())
        begin = time.perf_counter()
        assert sender.drain().result is Result.IDLE
        seconds = time.perf_counter() - begin
        assert len(service.stored) == WEEK
        spool.close()
    return seconds


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true")
    long = parser.parse_args(argv).long
    rounds = 9 if long else 5
    for group, count in ((1, 400 if long else 150), (100, 4_000), (1_000, 10_000)):
        rate, size, peer_rate, peer_size = compare(spool_writes, sqlite_writes, records(count), group, rounds)
        emit(f"spool.writes_per_s.group_{group}", rate, "records/s", "sqlite3 WAL FULL, not sealed", peer_rate)
        if size and peer_size:
            emit(f"spool.disk_bytes_per_record.group_{group}", size, "B", "sqlite3 WAL FULL, not sealed", peer_size)
    for name, restarted in (("json", False), ("sealed", True)):
        seconds = statistics.median(backlog(restarted) for _ in range(rounds))
        emit(f"spool.week_backlog.{name}", seconds, "s", "goal", 2.0)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
