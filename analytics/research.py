"""An export for researchers: no rooms, names, titles or small groups, with a data dictionary.

A row is a room class in one local hour of one weekday in one ISO week. Times of single rooms are left out on purpose:
with the public timetable they would give the event, and with it the people. Rows that stand for fewer than ``k``
rooms, or in which fewer than ``k`` people were on average, are withheld; so that the row of all classes does not give
a single withheld one away, the smallest other class goes with it, and where there is none the total does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path

import numpy as np
import numpy.typing as npt

from analytics.assemble import Site
from analytics.domain import disclosure, metrics
from analytics.domain.metrics import DEFINITION
from analytics.exports import Column, Export, Row
from analytics.figures import Scope, day_sums
from analytics.store.base import Store

ALL = "all classes"
FIGURES = (
    "coverage", "planned_frequency", "frequency", "planned_fill", "fill", "utilisation", "unused_booked", "unscheduled",
)  # fmt: skip
_MEASURES = metrics.needed_measures((*FIGURES, "people_in_use", "open_hours"))
Array = npt.NDArray[np.float64]

COLUMNS = (
    Column("room_class", "text", f"Class of the rooms; '{ALL}' is the total of the classes."),
    Column("iso_week", "text", "ISO year and week."),
    Column("weekday", "whole", "1 = Monday."),
    Column("hour", "whole", "Local hour, 0 to 23."),
    Column("rooms", "whole", "Rooms with measuring hours then; empty: withheld."),
    Column("withheld", "flag", "1: a small group, or one that a small group could be told from; no values."),
    Column("people_in_use", "people", metrics.FIGURES["people_in_use"].formula),
    *(Column(name, metrics.FIGURES[name].unit, metrics.FIGURES[name].formula) for name in FIGURES),
    Column("definition", "text", "Version of the definitions of all figures."),
)


def research_export(store: Store, scope: Scope, *, k: int = disclosure.THRESHOLD, site: Site | None = None) -> Export:
    """Rows by room class, week, weekday and hour.

    Raises:
        ValueError: ``k`` below 3 protects nobody.
        KeyError: an unknown building or room.
    """
    if k < 3:
        raise ValueError(f"k is {k}: groups below 3 protect nobody")
    site = site or Site.load(store, scope.org_id)
    scope.choose(site)
    return Export(COLUMNS, _rows(store, scope, k, site))


def _rows(store: Store, scope: Scope, k: int, site: Site) -> Iterator[Row]:
    classes: dict[str, list[str]] = {}
    for room in scope.choose(site):
        classes.setdefault(room.room_class or "none", []).append(room.id)
    names = sorted(classes)
    totals: dict[str, Mapping[str, Array]] = {}
    rooms: dict[str, Array] = {}
    days: tuple[date, ...] = ()
    for name in names:  # one class at a time: memory for its rooms alone
        chosen = [site.rooms[room_id] for room_id in classes[name]]
        loaded = day_sums(store, scope, chosen, _MEASURES, site)
        days = loaded.days
        totals[name] = {measure: values.sum(axis=0) for measure, values in loaded.measures.items()}
        rooms[name] = (loaded.measures["open_minutes"] > 0).sum(axis=0).astype(np.float64)
    for i, day in enumerate(days):
        year, week, weekday = day.isocalendar()
        for hour in range(24):
            present = [name for name in names if rooms[name][i, hour] > 0]
            if not present:
                continue
            cells = {name: {m: v[i, hour] for m, v in totals[name].items()} for name in present}
            counts = {name: float(rooms[name][i, hour]) for name in present}
            where = (f"{year}-W{week:02d}", weekday, hour)
            yield from _moment(where, cells, counts, k)


def _moment(
    where: tuple[str, int, int], cells: Mapping[str, Mapping[str, float]], counts: Mapping[str, float], k: int
) -> Iterator[Row]:
    """The classes of one hour and their total, small groups withheld."""
    names = list(cells)
    sums = {measure: np.array([cells[name][measure] for name in names]) for measure in _MEASURES}
    found = metrics.figures(sums, ("people_in_use", *FIGURES))
    sizes = np.array([counts[name] for name in names])
    # Few people over a whole class and hour are as telling as few rooms.
    people = np.nan_to_num(sums["person_minutes"] / 60)
    hidden = disclosure.withheld(sizes, (sizes < k) | disclosure.small(people, k))
    for i, name in enumerate(names):
        yield _row(name, where, sizes[i], bool(hidden[i]), {f: float(v[i]) for f, v in found.items()})
    if len(names) > 1:
        whole = {measure: np.array(values.sum()) for measure, values in sums.items()}
        all_people = float(whole["person_minutes"]) / 60
        secret = (
            disclosure.total_withheld(sizes, hidden) or float(sizes.sum()) < k or bool(disclosure.small(all_people, k))
        )
        total = metrics.figures(whole, ("people_in_use", *FIGURES))
        yield _row(ALL, where, float(sizes.sum()), secret, {f: float(v) for f, v in total.items()})


def _row(
    name: str, where: tuple[str, int, int], rooms: float, hidden: bool, values: Mapping[str, float]
) -> tuple[str | int | float | bool | None, ...]:
    if hidden:
        return (name, *where, None, True, *(None for _ in values), DEFINITION)
    return (name, *where, round(rooms), False, *values.values(), DEFINITION)


def data_dictionary(k: int = disclosure.THRESHOLD) -> dict[str, object]:
    """What every column means, its unit, and how values may be missing."""
    return {
        "title": "Use of rooms by class, week, weekday and hour",
        "definition": DEFINITION,
        "group_size": k,
        "missing": "An empty value is unknown (nothing measured) or, where withheld is 1, withheld. It is never 0.",
        "columns": [{"name": c.name, "unit": c.kind, "meaning": c.meaning} for c in COLUMNS],
    }


def write_dictionary(path: Path, k: int = disclosure.THRESHOLD) -> None:
    """The data dictionary as JSON beside the data, by a temporary name and a rename."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(data_dictionary(k), indent=2, ensure_ascii=False) + "\n", "utf-8")
    temporary.replace(path)
