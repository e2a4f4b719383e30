"""A year of minute counts in the stores: size, ingest rate, and the queries behind heat maps.

    python -m tests.bench.store_year             # 20 rooms, under half a minute
    python -m tests.bench.store_year --long      # 1,000 rooms, 234 million minutes
    python -m tests.bench.store_year --long --keep FOLDER   # build once, measure again later

Simulated counts: measured Mon-Fri 07:00-22:00, a random walk of people while a room is in use. The same queries run on
MongoDB's protocol where HEADROOM_TEST_MONGODB_URI names a server (FerretDB there says nothing about MongoDB's speed).
Peers for the year-wide heat map, on the same data in the same run: DuckDB and pandas over the hourly figures as a plain
table (the figures already computed, the most favourable case for them), and DuckDB over the minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from analytics.domain.model import SLOT_DTYPE, DayRollup, SlotArray
from analytics.store.base import Store
from analytics.store.documents import day_number
from analytics.store.sqlite import SqliteStore
from uplink.messages import CountRecord

MASTER_KEY = bytes(range(32))
NOW = datetime(2027, 1, 1, tzinfo=UTC)
YEAR = (date(2026, 1, 1), date(2027, 1, 1))
DAYS = [d for i in range(365) if (d := YEAR[0] + timedelta(days=i)).weekday() < 5]
MEASURES = ("in_use_minutes", "measured_minutes", "person_minutes", "seat_minutes")
SHOWN = MEASURES[:2]


def emit(
    name: str, value: float, unit: str, peer: str | None = None, peer_value: float | None = None, **more: Any
) -> None:
    line: dict[str, Any] = {"name": name, "value": round(value, 4), "unit": unit}
    if peer is not None and peer_value is not None:
        line |= {"peer": peer, "peer_value": round(peer_value, 4), "ratio": round(peer_value / value, 3)}
    print(json.dumps(line | more), flush=True)


def median_seconds(work: Callable[[], object], times: int = 5) -> float:
    taken = []
    for _ in range(times):
        begin = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken))


def sensor_day(rng: np.random.Generator, day: date) -> SlotArray:
    """900 minutes of one room."""
    slots = np.zeros(900, dtype=SLOT_DTYPE)
    slots["start"] = day_number(day) * 86_400 + 6 * 3600 + np.arange(900) * 60
    slots["seconds"], slots["health"] = 60, 1
    use = np.repeat(rng.random(20) < 0.45, 45)  # lessons of 45 minutes
    people = np.repeat(rng.integers(3, 60, 20), 45) + np.cumsum(rng.integers(-1, 2, 900) * (rng.random(900) < 0.15))
    slots["present"] = np.where(use, np.clip(people, 1, None), 0)
    slots["present_max"] = slots["present"] + (rng.random(900) < 0.2) * use
    slots["entered"] = rng.poisson(0.15, 900) * use
    slots["left"] = rng.poisson(0.15, 900) * use
    slots["coverage"] = np.where(rng.random(900) < 0.95, 10_000, rng.integers(9_000, 10_000, 900))
    return slots


def rollup(room: str, day: date, slots: SlotArray) -> DayRollup:
    hours = slots["present"].reshape(15, 60)
    figures = np.zeros((4, 24))
    figures[0, 7:22] = (hours > 0).sum(axis=1)
    figures[1, 7:22] = 60
    figures[2, 7:22] = hours.sum(axis=1)
    figures[3, 7:22] = 60 * 60
    return DayRollup(room, day, "v1", dict(zip(MEASURES, figures, strict=True)))


def fill(store: Store, rooms: list[str]) -> tuple[float, float]:
    """A year, a room at a time. Returns the seconds spent in ingest and in roll-ups."""
    rng = np.random.default_rng(20260101)
    ingest = rollups = 0.0
    for room in rooms:
        days = [sensor_day(rng, day) for day in DAYS]
        year = np.concatenate(days)
        begin = time.perf_counter()
        store.ingest_slots("org", {room: year}, NOW)
        ingest += time.perf_counter() - begin
        figures = [rollup(room, day, slots) for day, slots in zip(DAYS, days, strict=True)]
        begin = time.perf_counter()
        store.put_rollups("org", figures)
        rollups += time.perf_counter() - begin
    return ingest, rollups


def heat_map(store: Store, rooms: list[str]) -> np.ndarray[Any, Any]:
    """Minutes in use / minutes measured, shape (7 weekdays, 24 local hours)."""
    table = store.rollups("org", rooms, *YEAR, "v1", SHOWN)
    weekdays = np.array([day.weekday() for day in table.days])
    result = np.full((7, 24), np.nan)
    used, measured = (np.nansum(table.measures[name], axis=0) for name in SHOWN)
    for weekday in range(7):
        below = measured[weekdays == weekday].sum(axis=0)
        with np.errstate(invalid="ignore"):
            result[weekday] = used[weekdays == weekday].sum(axis=0) / below
    return result


def live_rates(store: Store, prefix: str, sensors: int, singly: int) -> None:
    """What ingest does all day: batches of one sensor, and every sensor's newest minute."""
    start, org = datetime(2026, 6, 1, 8, tzinfo=UTC), f"live-{uuid.uuid4().hex}"

    def record(sensor: str, minute: int) -> CountRecord:
        begin = start + timedelta(minutes=minute)
        return CountRecord(sensor_id=sensor, start=begin, present=minute % 40, present_max=40, coverage=1.0)

    batches = [[record(f"live-{n}", m) for m in range(1000)] for n in range(10)]
    begin = time.perf_counter()
    for batch in batches:
        store.ingest(org, batch, NOW)
    emit(f"{prefix}.ingest_batches_of_1000", 10_000 / (time.perf_counter() - begin), "records/s")
    begin = time.perf_counter()
    for batch in batches:
        store.ingest(org, batch, NOW)
    emit(f"{prefix}.replay_batches_of_1000", 10_000 / (time.perf_counter() - begin), "records/s")
    minutes = [[record(f"one-{n}", m) for n in range(sensors)] for m in range(3)]
    begin = time.perf_counter()
    for minute in minutes:
        store.ingest(org, minute, NOW)
    emit(f"{prefix}.newest_minute_of_{sensors}_sensors", (time.perf_counter() - begin) / 3, "s")
    singles = [record("single", m) for m in range(singly)]
    emit(f"{prefix}.one_record_durably", _each(store, org, singles) * 1000, "ms")


def _each(store: Store, org: str, records: list[CountRecord]) -> float:
    taken = []
    for one in records:
        begin = time.perf_counter()
        store.ingest(org, [one], NOW)
        taken.append(time.perf_counter() - begin)
    return float(np.median(taken))


def queries(store: Store, prefix: str, rooms: list[str]) -> None:
    emit(f"{prefix}.heat_map_one_room_year", median_seconds(lambda: heat_map(store, rooms[:1])) * 1000, "ms", goal=50)
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    one = median_seconds(lambda: store.counts("org", rooms[:1], start, end))
    emit(f"{prefix}.minutes_of_one_room_year", one * 1000, "ms")
    week = (datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 6, 8, tzinfo=UTC))
    emit(
        f"{prefix}.minutes_of_{len(rooms)}_rooms_week",
        median_seconds(lambda: store.counts("org", rooms, *week), 3),
        "s",
    )


def hourly_rows(store: Store, rooms: list[str]) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    """The roll-ups as the columns of a plain table, for the peers."""
    table = store.rollups("org", rooms, *YEAR, "v1", SHOWN)
    measured = table.measures[SHOWN[1]]
    room, day, hour = np.nonzero(measured > 0)
    days = np.array([np.datetime64(d) for d in table.days])
    yield "room", room.astype(np.int32)
    yield "day", days[day]
    yield "hour", hour.astype(np.int8)
    yield "in_use", table.measures[SHOWN[0]][room, day, hour].astype(np.int16)
    yield "measured", measured[room, day, hour].astype(np.int16)


def peers(store: Store, rooms: list[str], folder: Path) -> None:
    import duckdb
    import pandas as pd

    ours = median_seconds(lambda: heat_map(store, rooms), 3)
    frame = pd.DataFrame(dict(hourly_rows(store, rooms)))
    frame.to_parquet(folder / "hours.parquet")

    def with_pandas() -> None:
        hours = pd.read_parquet(folder / "hours.parquet")
        grouped = hours.groupby([hours["day"].dt.day_of_week, "hour"])[["in_use", "measured"]].sum()
        (grouped["in_use"] / grouped["measured"]).unstack()

    with duckdb.connect(str(folder / "peer.duckdb")) as peer:
        peer.register("frame", frame)
        peer.execute("CREATE OR REPLACE TABLE hours AS SELECT * FROM frame")
        ask = "SELECT dayofweek(day) w, hour, sum(in_use) / sum(measured) FROM hours GROUP BY ALL ORDER BY ALL"
        duck = median_seconds(lambda: peer.execute(ask).fetchall())
        panda = median_seconds(with_pandas, 3)
        name = f"sqlite.heat_map_{len(rooms)}_rooms_year"
        emit(name, ours, "s", "pandas over hourly Parquet", panda, goal=2)
        emit(name, ours, "s", "DuckDB over an hourly table", duck, goal=2)
        few = rooms[:100]
        start, end = (datetime(d.year, d.month, d.day, tzinfo=UTC) for d in YEAR)
        minutes = np.concatenate(list(store.counts("org", few, start, end).values()))
        table = pd.DataFrame({"start": minutes["start"], "present": minutes["present"]})
        peer.register("counts", table)
        peer.execute("CREATE OR REPLACE TABLE minutes AS SELECT to_timestamp(start)::TIMESTAMP t, present FROM counts")
        ask = "SELECT dayofweek(t) w, hour(t) h, avg((present > 0)::INT) FROM minutes GROUP BY ALL ORDER BY ALL"
        duck = median_seconds(lambda: peer.execute(ask).fetchall(), 3)
        ours = median_seconds(lambda: heat_map(store, few), 3)
        emit(f"sqlite.heat_map_{len(few)}_rooms_year", ours, "s", "DuckDB over the minutes", duck)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--long", action="store_true", help="1,000 rooms instead of 20")
    parser.add_argument("--keep", type=Path, help="folder to build the store in and to find it again")
    arguments = parser.parse_args(argv)
    rooms = [f"room-{number:04d}" for number in range(1000 if arguments.long else 20)]
    with ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        path = folder / "year.db"
        built = path.exists()
        store = stack.enter_context(SqliteStore.open(path, MASTER_KEY))
        if not built:
            ingest, rollups = fill(store, rooms)
            store.connections.reclaim()
            minutes = len(rooms) * len(DAYS) * 900
            emit("sqlite.ingest_years", minutes / ingest, "minutes/s")
            emit("sqlite.rollups_stored", len(rooms) * len(DAYS) / rollups, "room-days/s")
            emit("sqlite.size", path.stat().st_size / 1e6, "MB")
            emit("sqlite.size_per_sensor_year", path.stat().st_size / len(rooms) / 1e3, "kB")
            emit("sqlite.bytes_per_minute", path.stat().st_size / minutes, "B")
        queries(store, "sqlite", rooms)
        peers(store, rooms, folder)
        live_rates(store, "sqlite", 1000, 200)
        uri = os.environ.get("HEADROOM_TEST_MONGODB_URI")
        if uri and not arguments.long:
            on_mongodb(uri, rooms[:1])
    return 0


def on_mongodb(uri: str, rooms: list[str]) -> None:
    from pymongo import MongoClient

    from analytics.store.mongodb import MongoStore

    database = f"headroom_bench_{uuid.uuid4().hex[:8]}"
    try:
        with MongoStore.open(uri, MASTER_KEY, database=database) as store:
            ingest, _ = fill(store, rooms)
            emit("mongodb.ingest_years", len(rooms) * len(DAYS) * 900 / ingest, "minutes/s")
            queries(store, "mongodb", rooms)
            emit(f"mongodb.heat_map_{len(rooms)}_rooms_year", median_seconds(lambda: heat_map(store, rooms), 3), "s")
            live_rates(store, "mongodb", 5, 5)
    finally:
        with MongoClient[dict[str, Any]](uri) as client:
            client.drop_database(database)


if __name__ == "__main__":
    raise SystemExit(main())
