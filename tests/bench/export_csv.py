"""A year's CSV of one building, streamed: rows a second and the memory of the whole process.

``python -m tests.bench.export_csv [--long]``: 10 rooms by the hour, or 50 with ``--long``.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import psutil

from analytics.domain import metrics
from analytics.exports import Language, Unit, csv_stream, room_export
from analytics.figures import DEFAULT_FIGURES, Scope
from analytics.store.sqlite import SqliteStore
from tests.bench._rollup_year import DAYS, FIRST, KEY, ORG, emit, fill


def main(argv: list[str] | None = None) -> int:
    """Print the figures; 1 when the process takes more than 200 MB."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--stream", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.stream is not None:
        return stream(options.stream)
    rooms = 50 if options.long else 10
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "year.db"
        fill(path, rooms, metrics.needed_measures(("open_hours", "coverage", *DEFAULT_FIGURES))).close()
        # A process of its own: what filled the store must not count.
        return subprocess.run([sys.executable, "-m", "tests.bench.export_csv", "--stream", str(path)]).returncode


def stream(path: Path) -> int:
    """Export and measure, in a fresh process."""
    process = psutil.Process(os.getpid())
    with SqliteStore.open(path, KEY) as store:
        before = process.memory_info().rss
        start = time.perf_counter()
        scope = Scope(ORG, FIRST, FIRST + timedelta(days=DAYS), buildings=("b0",))
        size, rows, most = 0, 0, before
        for piece in csv_stream(room_export(store, scope, Unit.HOUR), Language.DUTCH):
            size += len(piece)
            rows += piece.count(b"\r\n")
            most = max(most, process.memory_info().rss)
        seconds = time.perf_counter() - start
    emit("export_csv.rows", rows, "rows")
    emit("export_csv.bytes", size, "B")
    emit("export_csv.time", seconds, "s")
    emit("export_csv.rows_per_second", rows / seconds, "1/s")
    emit("export_csv.process_memory", most / 1e6, "MB")
    emit("export_csv.memory_above_start", (most - before) / 1e6, "MB")
    return 0 if most < 200e6 else 1


if __name__ == "__main__":
    sys.exit(main())
