"""``headroom report``."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from analytics.assemble import Site
from analytics.cli.common import (
    bring_up_to_date,
    figures_option,
    naming_the_unknown,
    opened,
    rules_in,
    scope_of,
    scope_options,
)
from analytics.cli.serve import data_option
from analytics.domain.metrics import FIGURES
from analytics.domain.time import date_of
from analytics.figures import By, FigureTable, heat_map, peaks, table

_USUAL = (
    "coverage", "planned_frequency", "frequency", "fill", "utilisation", "unused_booked", "no_show_rate", "hours_lost",
)  # fmt: skip
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@click.command(
    epilog="""\b
Examples:
  headroom report --from 2026-09-07 --to 2026-11-13
  headroom report --by hour --building main --figures frequency,fill,utilisation
  headroom report --heat frequency --room main-1-05
  headroom report --by week --json"""
)
@data_option
@scope_options
@click.option("--by", type=click.Choice([b.value for b in By]), default=By.ROOM.value, help="What a row is.")
@figures_option(_USUAL)
@click.option("--heat", metavar="FIGURE", help="Hour by weekday of one figure, instead of a table.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
def report(
    data: Path,
    by: str,
    names: tuple[str, ...],
    heat: str | None,
    as_json: bool,
    organisation: str | None,
    **choice: Any,
) -> None:
    """Planned beside measured, with the coverage of every row.

    An empty cell is unknown: nothing was measured. Definitions: docs/definitions.md.
    """
    if heat is not None and heat not in FIGURES:
        raise click.BadParameter(f"--heat {heat!r} is no figure; there are: {', '.join(FIGURES)}")
    rules_of = rules_in(data)
    with opened(data) as store:
        scope = scope_of(store, organisation=organisation, **choice)
        bring_up_to_date(store, scope.org_id, rules_of)
        site = Site.load(store, scope.org_id)
        period = {"from": scope.start.isoformat(), "until": scope.end.isoformat()}
        with naming_the_unknown():
            if heat is not None:
                found = heat_map(store, scope, (heat,), site)
                if as_json:
                    values = {n: [[_number(c) for c in row] for row in v.tolist()] for n, v in found.figures.items()}
                    _print_json({**period, "definition": found.definition, "weekday_by_hour": values})
                else:
                    _print_heat(heat, found.figures[heat].tolist())
                return
            rows = table(store, scope, By(by), names, site)
            most = peaks(store, scope, site)
    peak = {
        "p95": _number(most.p95),
        "highest": _number(most.highest),
        "at": None if most.day < 0 else f"{date_of(most.day)} {most.quarter // 4:02d}:{most.quarter % 4 * 15:02d}",
    }
    if as_json:
        _print_json({**period, "definition": rows.definition, "by": by, "rows": _rows(rows),
                     "total": {n: _number(v) for n, v in rows.total.items()}, "peak": peak,
                     "room_days_without_data": rows.days_missing})  # fmt: skip
        return
    _print_table(rows, site)
    console = Console()
    console.print(f"{scope.start} up to {scope.end} (not included) · definitions {rows.definition}", style="dim")
    if peak["at"]:
        console.print(
            f"Most people at one moment: {most.highest:.0f} on {peak['at']}; 95th percentile {most.p95:.0f}.",
            style="dim",
        )
    if rows.days_missing:
        console.print(f"{rows.days_missing} room-days without any count.", style="yellow")


def _rows(rows: FigureTable) -> list[dict[str, Any]]:
    return [
        {"label": label, **{name: _number(float(values[i])) for name, values in rows.figures.items()}}
        for i, label in enumerate(rows.labels)
    ]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)


def _print_json(document: dict[str, Any]) -> None:
    click.echo(json.dumps(document, ensure_ascii=False, allow_nan=False))


# Heads that keep a table of the usual figures within 80 columns; the unit is in the head, not in every cell.
_HEADS = {
    "coverage": "cover", "planned_frequency": "plan\nfreq", "frequency": "freq", "planned_fill": "plan\nfill",
    "planned_utilisation": "plan\nutil", "utilisation": "util", "unused_booked": "un-\nused",
    "unscheduled": "un-\nsched", "no_show_rate": "no-\nshow", "hours_lost": "lost", "release_hours": "re-\nlease",
}  # fmt: skip
_SIGNS = {"ratio": "%", "hours": "h", "people": "people"}


def _print_table(rows: FigureTable, site: Site) -> None:
    shown = Table(header_style="bold", padding=(0, 1, 0, 0), box=box.SIMPLE_HEAD)
    shown.add_column(rows.by.value, no_wrap=True, max_width=24)
    for name in rows.figures:
        head = _HEADS.get(name, name.replace("_", "\n"))
        shown.add_column(f"{head}\n{_SIGNS[FIGURES[name].unit]}", justify="right", no_wrap=True, vertical="bottom")
    for i, label in enumerate(rows.labels):
        shown.add_row(_label(rows.by, label, site), *(cell(n, float(v[i])) for n, v in rows.figures.items()))
    if len(rows.labels) > 1:
        shown.add_section()
        shown.add_row("all", *(cell(name, value) for name, value in rows.total.items()), style="bold")
    Console().print(shown)


def _label(by: By, label: str, site: Site) -> str:
    if by is By.ROOM:
        return label
    if by is By.BUILDING:
        return site.buildings[label].name or label
    if by is By.WEEKDAY:
        return _WEEKDAYS[int(label)]
    return f"{label}:00" if by is By.HOUR else label or "-"


def cell(name: str, value: float) -> str:
    """A figure for people; empty where unknown."""
    if math.isnan(value):
        return ""
    return f"{100 * value:.1f}" if FIGURES[name].unit == "ratio" else f"{value:.1f}"


def _print_heat(name: str, values: Sequence[Sequence[float]]) -> None:
    hours = [h for h in range(24) if any(not math.isnan(day[h]) for day in values)]
    shown = Table(
        title=f"{name.replace('_', ' ')}, {_SIGNS[FIGURES[name].unit]}",
        header_style="bold", padding=(0, 1, 0, 0), box=box.SIMPLE_HEAD,
    )  # fmt: skip
    shown.add_column("", no_wrap=True)
    for hour in hours:
        shown.add_column(f"{hour:02d}", justify="right", no_wrap=True)
    for weekday, day in enumerate(values):
        cells = [cell(name, day[hour]) for hour in hours]
        shown.add_row(_WEEKDAYS[weekday], *(c if len(hours) < 9 else c.rpartition(".")[0] for c in cells))
    Console().print(shown)
