"""A year of day roll-ups of many rooms in an embedded store, for benchmarks of figures and exports."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from analytics.domain.metrics import DEFINITION
from analytics.domain.model import Building, Capacity, DayRollup, Organisation, Room
from analytics.store.sqlite import SqliteStore

ORG = "bench"
FIRST = date(2025, 9, 1)
DAYS = 365
KEY = bytes(range(32))


def emit(name: str, value: float, unit: str, peer: str | None = None, peer_value: float | None = None) -> None:
    """One JSON line of the benchmark format; the ratio is peer / ours for times: above 1 we are faster."""
    line: dict[str, object] = {"name": name, "value": round(value, 6), "unit": unit}
    if peer is not None and peer_value is not None:
        line |= {"peer": peer, "peer_value": round(peer_value, 6), "ratio": round(peer_value / value, 3)}
    print(json.dumps(line), flush=True)


def cells(rng: np.random.Generator, measures: Sequence[str]) -> dict[str, np.ndarray]:
    """One room's year: measure to shape (days, 24); whole numbers, nothing outside Monday to Friday 07 to 22."""
    weekday = np.array([(FIRST + timedelta(days=d)).weekday() for d in range(DAYS)])
    hours = np.zeros((DAYS, 24))
    hours[np.ix_(weekday < 5, range(7, 22))] = 60
    measured = np.floor(hours * rng.uniform(0.9, 1.0))
    used = np.floor(measured * rng.uniform(0, 1, hours.shape))
    people = np.floor(used * rng.uniform(0, 40, hours.shape))
    known = {"open_minutes": hours, "measured_minutes": measured, "in_use_minutes": used}
    return {name: known.get(name, people) for name in measures}


def fill(path: Path, rooms: int, measures: Sequence[str]) -> SqliteStore:
    """An embedded store with a year of ``rooms`` rooms in one building of 50 rooms each."""
    store = SqliteStore.open(path, KEY)
    store.put_organisation(Organisation(ORG, "Benchmark"))
    store.put_buildings(ORG, [Building(ORG, f"b{i}", f"Building {i}") for i in range((rooms + 49) // 50)])
    seats = (Capacity(date(2020, 1, 1), 40),)
    store.put_rooms(ORG, [Room(ORG, f"r{i:04d}", f"b{i // 50}", f"{i}", capacities=seats) for i in range(rooms)])
    rng = np.random.default_rng(1)
    days = [FIRST + timedelta(days=d) for d in range(DAYS)]
    for room in range(rooms):
        year = cells(rng, measures)
        store.put_rollups(
            ORG,
            [
                DayRollup(f"r{room:04d}", day, DEFINITION, {name: values[d] for name, values in year.items()})
                for d, day in enumerate(days)
            ],
        )
    return store
