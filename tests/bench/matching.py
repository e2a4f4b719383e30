"""A term's match on a simulated campus: time, and how right it is.

``python -m tests.bench.matching [--long] [--table]``: 30 rooms and 8 weeks, or 200 rooms and 20 weeks with
``--long``. ``--table`` prints the confusion table in Markdown instead (docs/confusion.md).
"""

from __future__ import annotations

import argparse
import sys
import time

from analytics.domain.matching import Outcome
from analytics.simulate import Campus, Report
from analytics.simulate.judge import add, match_of, occupancy_of
from tests.bench._rollup_year import emit


def main(argv: list[str] | None = None) -> int:
    """Print the figures; 1 when outcomes are right for fewer than 97 %."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(argv)
    campus = Campus(rooms=200, weeks=20, seed=options.seed) if options.long else Campus(30, 8, options.seed)
    report, fusing, matching = Report(), 0.0, 0.0
    for room in campus.each():
        start = time.perf_counter()
        occupancy = occupancy_of(campus, room)
        middle = time.perf_counter()
        matches = match_of(campus, room, occupancy)
        matching += time.perf_counter() - middle
        fusing += middle - start
        add(report, campus, room, occupancy, matches)
    if options.table:
        print(table(report))
        return 0
    people, share, within = report.attendance_error()
    uncorrected, nightly, corrected = report.drift()
    name = f"matching.{campus.rooms}_rooms_{campus.weeks}_weeks"
    emit(f"{name}.match", matching, "s")
    emit(f"{name}.occupancy", fusing, "s")
    emit(f"{name}.bookings", report.bookings, "bookings")
    emit(f"{name}.outcome_accuracy", report.accuracy, "ratio")
    emit(f"{name}.unknown", report.unknown, "ratio")
    emit(f"{name}.attendance_median_error", people, "people")
    emit(f"{name}.attendance_median_error_share", share, "ratio")
    emit(f"{name}.attendance_within_1_or_5_percent", within, "ratio")
    emit(f"{name}.peak_within_1_or_5_percent", report.peak_error(), "ratio")
    emit(f"{name}.door_rmse_corrected", corrected, "people", "uncorrected sum", uncorrected)
    emit(f"{name}.door_rmse_corrected", corrected, "people", "reset every night", nightly)
    return 0 if report.accuracy >= 0.97 else 1


def table(report: Report) -> str:
    """The confusion table: rows are the truth, columns what the product says."""
    order = [Outcome.HELD, *(o for o in Outcome if o not in (Outcome.HELD, Outcome.UNKNOWN)), Outcome.UNKNOWN]
    names = [o.word.replace("_", " ") for o in order]
    lines = ["| truth \\ reported | " + " | ".join(names) + " | right |", "|---|" + "---:|" * (len(names) + 1)]
    for true in order[:-1]:
        row = report.confusion[true]
        judged = int(row[1:].sum())
        right = f"{100 * row[true] / judged:.1f} %" if judged else ""
        lines.append(f"| {true.word.replace('_', ' ')} | " + " | ".join(str(row[o]) for o in order) + f" | {right} |")
    lines.append("")
    lines.append(
        f"{report.bookings} bookings; {100 * report.accuracy:.1f} % of those judged are right, "
        f"{100 * report.unknown:.1f} % are unknown."
    )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
