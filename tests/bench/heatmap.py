"""Heat maps, hour by weekday, of a year of room-hours: from the embedded store, and against pandas and DuckDB.

``python -m tests.bench.heatmap [--long]``: 100 rooms, or 1,000 with ``--long``. Peers work on the same room-hours:
in memory (a data frame and an in-memory table that are there already, as our arrays are), and from disk (Parquet
for them; for us the encrypted store, as a page reads it: whole buildings from their own roll-ups, which the roll-up
job keeps beside those of rooms). Medians; answers are compared first.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from analytics.assemble import Site
from analytics.domain import metrics
from analytics.figures import Scope, heat_map, heat_sums, months
from analytics.rollups import roll_up_building
from tests.bench._rollup_year import DAYS, FIRST, ORG, emit, fill

FIGURE = "frequency"
MEASURES = metrics.needed_measures(("coverage", FIGURE))
_SQL = "SELECT weekday, hour, {} FROM {} GROUP BY weekday, hour"


def timed(work: Callable[[], Any], repeats: int = 9) -> float:
    """Median seconds of a call."""
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main(argv: list[str] | None = None) -> int:
    """Print the figures; 1 when a peer's answer differs from ours."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true")
    rooms = 1_000 if parser.parse_args(argv).long else 100
    with tempfile.TemporaryDirectory() as folder, fill(Path(folder) / "year.db", rooms, MEASURES) as store:
        site = Site.load(store, ORG)
        year = Scope(ORG, FIRST, FIRST + timedelta(days=DAYS))
        one = Scope(ORG, FIRST, FIRST + timedelta(days=DAYS), rooms=("r0000",))
        emit("heatmap.one_room_year", timed(lambda: heat_map(store, one, (FIGURE,), site)), "s")
        each = Scope(ORG, FIRST, FIRST + timedelta(days=DAYS), rooms=tuple(site.rooms))
        by_rooms = timed(lambda: heat_map(store, each, (FIGURE,), site), 3)
        emit(f"heatmap.{rooms}_rooms_year_room_by_room", by_rooms, "s")
        for building in site.buildings:
            for month, _ in months(FIRST.replace(day=1), FIRST + timedelta(days=DAYS)):
                store.put_rollups(ORG, roll_up_building(store, site, building, month))
        from_store = timed(lambda: heat_map(store, year, (FIGURE,), site))
        emit(f"heatmap.{rooms}_rooms_year", from_store, "s")
        one_way, other = heat_map(store, each, (FIGURE,), site), heat_map(store, year, (FIGURE,), site)
        if not np.allclose(one_way.figures[FIGURE], other.figures[FIGURE], equal_nan=True):
            print("buildings and rooms differ", file=sys.stderr)
            return 1
        loaded = store.rollups(ORG, list(site.rooms), year.start, year.end, metrics.DEFINITION, MEASURES)
        return compare({n: np.nan_to_num(v) for n, v in loaded.measures.items()}, rooms, Path(folder), from_store)


def compare(measures: dict[str, np.ndarray], rooms: int, folder: Path, from_store: float) -> int:
    """Pandas and DuckDB on the same room-hours."""
    import duckdb
    import pandas as pd

    weekday = np.array([(FIRST + timedelta(days=d)).weekday() for d in range(DAYS)])
    open_cells = measures["open_minutes"] > 0
    place = np.nonzero(open_cells)
    frame = pd.DataFrame(
        {"weekday": weekday[place[1]].astype(np.int8), "hour": place[2].astype(np.int8)}
        | {name: values[place].astype(np.int32) for name, values in measures.items()}
    )
    sums = ", ".join(f"sum({name}) AS {name}" for name in MEASURES)
    frame.to_parquet(folder / "year.parquet", index=False)
    connection = duckdb.connect()
    connection.execute("CREATE TABLE year AS SELECT * FROM frame")

    def ours() -> dict[str, np.ndarray]:
        return metrics.figures({n: heat_sums(v, weekday) for n, v in measures.items()}, ("coverage", FIGURE))

    def pandas() -> Any:
        return frame.groupby(["weekday", "hour"])[list(MEASURES)].sum()

    def duck() -> Any:
        return connection.execute(_SQL.format(sums, "year")).fetchall()

    def duck_disk() -> Any:
        return connection.execute(_SQL.format(sums, f"'{folder}/year.parquet'")).fetchall()

    def pandas_disk() -> Any:
        table = pd.read_parquet(folder / "year.parquet")
        return table.groupby(["weekday", "hour"])[list(MEASURES)].sum()

    at = {name: i for i, name in enumerate(MEASURES)}
    found = ours()[FIGURE]
    for row in duck():
        theirs = row[2 + at["in_use_minutes"]] / row[2 + at["measured_minutes"]]
        if abs(found[row[0], row[1]] - theirs) > 1e-9:
            print(f"answers differ at weekday {row[0]} hour {row[1]}", file=sys.stderr)
            return 1
    memory = timed(ours)
    emit(f"heatmap.{rooms}_rooms_in_memory", memory, "s", "pandas", timed(pandas, 3))
    emit(f"heatmap.{rooms}_rooms_in_memory", memory, "s", "duckdb", timed(duck))
    emit(f"heatmap.{rooms}_rooms_from_disk", from_store, "s", "pandas (parquet)", timed(pandas_disk, 3))
    emit(f"heatmap.{rooms}_rooms_from_disk", from_store, "s", "duckdb (parquet)", timed(duck_disk, 3))
    return 0


if __name__ == "__main__":
    sys.exit(main())
