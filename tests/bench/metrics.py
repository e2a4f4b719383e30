"""From minutes to sums by day and hour: a room's term, against the same sums with pandas on the same minutes.

``python -m tests.bench.metrics [--long]``: one room's 20 weeks, or a year with ``--long``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from analytics.domain.metrics import MinuteFacts, day_cells, in_use
from analytics.domain.plan import planned_minutes
from analytics.simulate import Campus, simulate_room
from analytics.simulate.judge import match_of, occupancy_of
from tests.bench._rollup_year import emit


def timed(work: Callable[[], Any]) -> float:
    """Median seconds of seven calls."""
    times = []
    for _ in range(7):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main(argv: list[str] | None = None) -> int:
    """Print the figures; 1 when pandas' sums differ from ours."""
    import pandas as pd

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true")
    weeks = 52 if parser.parse_args(argv).long else 20
    campus = Campus(rooms=1, weeks=weeks, seed=1)
    grid, room = campus.grid, simulate_room(campus, 0)
    occupancy = occupancy_of(campus, room)
    matches = match_of(campus, room, occupancy)
    minutes = planned_minutes(matches.clusters, matches.own_begin, matches.own_end, grid.start, grid.length)
    facts = MinuteFacts(
        campus.calendar.open(grid), occupancy.people, in_use(occupancy.people, room.rules), minutes,
        np.full(grid.length, room.capacity, dtype=np.float32),
    )  # fmt: skip
    known = ~np.isnan(facts.people)
    frame = pd.DataFrame(
        {"day": grid.day, "hour": grid.hour, "measured": known, "used": facts.used & known, "booked": minutes.booked,
         "people": np.where(facts.used & known, facts.people, 0), "seats": facts.capacity * known}
    )[facts.open]  # fmt: skip

    def pandas() -> Any:
        return frame.groupby(["day", "hour"]).sum()

    ours, theirs = day_cells(facts, grid, matches), pandas()
    if abs(ours.hours["person_minutes"].sum() - theirs["people"].sum()) > 1e-3:
        print("sums differ", file=sys.stderr)
        return 1
    emit(f"metrics.day_cells_{weeks}_weeks", timed(lambda: day_cells(facts, grid, matches)), "s",
         "pandas (5 of 27 measures)", timed(pandas))  # fmt: skip
    emit(f"metrics.occupancy_{weeks}_weeks", timed(lambda: occupancy_of(campus, room)), "s")
    emit(f"metrics.match_{weeks}_weeks", timed(lambda: match_of(campus, room, occupancy)), "s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
