"""Figures and bookings as CSV, Parquet and JSON, streamed row by row.

CSV is for spreadsheets: UTF-8 with BOM, CRLF, quotes after RFC 4180; Dutch writes ``;`` and a decimal comma, English
``,`` and a point, as the user chose. An empty cell is no data, never 0. A text cell that a spreadsheet would run as
a formula gets an apostrophe (OWASP ASVS 1.2.10); numbers never do. Column names are stable.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import IO
from zoneinfo import ZoneInfo

import numpy as np

from analytics.assemble import RulesOf, Site, default_rules
from analytics.domain import disclosure, metrics
from analytics.domain.metrics import DEFINITION
from analytics.domain.time import moment_of
from analytics.figures import DEFAULT_FIGURES, By, Scope, booking_rows, day_sums, group_days, months
from analytics.store.base import Store

Cell = str | int | float | bool | date | datetime | None
Row = Sequence[Cell]

_CHUNK_ROWS = 2_000
_ROOMS_AT_ONCE = 8
_DECIMALS = {"ratio": 4, "people": 1, "hours": 2}
_RUN_AS_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\0", "＝", "＋", "－", "＠")


class Language(StrEnum):
    """How numbers are written and columns labelled."""

    DUTCH = "nl"
    ENGLISH = "en"


class Format(StrEnum):
    CSV = "csv"
    JSON = "json"
    PARQUET = "parquet"


class Unit(StrEnum):
    """What a row stands for, beside the room."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True)
class Column:
    """One column: ``kind`` is text, whole, flag, date, time, or a unit of figures (ratio, people, hours)."""

    name: str
    kind: str
    meaning: str


@dataclass(frozen=True)
class Export:
    """Columns and rows; rows are made as they are read."""

    columns: tuple[Column, ...]
    rows: Iterable[Row]


# --- what is exported ----------------------------------------------------------------------------------------------

_WHERE = (
    Column("building_id", "text", "Building."),
    Column("room_id", "text", "Room."),
    Column("room_number", "text", "Number on the door."),
    Column("capacity", "whole", "Seats on the first day of the row; empty: unknown."),
)
_DEFINITION = Column("definition", "text", "Version of the definitions of all figures.")


def room_export(
    store: Store,
    scope: Scope,
    unit: Unit = Unit.DAY,
    names: Sequence[str] = DEFAULT_FIGURES,
    site: Site | None = None,
) -> Export:
    """One row for each room and hour, day, week or month with measuring hours.

    Raises:
        KeyError: unknown figure, room or building.
    """
    site = site or Site.load(store, scope.org_id)
    names = tuple(dict.fromkeys(("coverage", *names)))
    columns = (
        *_WHERE,
        Column("start", "date", "First local day of the row."),
        *((Column("hour", "whole", "Local hour, 0 to 23."),) if unit is Unit.HOUR else ()),
        *(Column(name, metrics.FIGURES[name].unit, metrics.FIGURES[name].formula) for name in names),
        _DEFINITION,
    )
    scope.choose(site)  # faults now, and not when the first bytes are out
    return Export(columns, _room_rows(store, scope, unit, names, site))


def _room_rows(store: Store, scope: Scope, unit: Unit, names: Sequence[str], site: Site) -> Iterator[Row]:
    rooms = scope.choose(site)
    for at in range(0, len(rooms), _ROOMS_AT_ONCE):
        some = rooms[at : at + _ROOMS_AT_ONCE]
        loaded = day_sums(store, scope, some, metrics.needed_measures(("open_hours", *names)), site)
        for row, room in enumerate(some):
            cells = {name: values[row] for name, values in loaded.measures.items()}
            if unit is Unit.HOUR:
                keys: list[tuple[date, int | None]] = [(day, hour) for day in loaded.days for hour in range(24)]
                sums = {name: values.ravel() for name, values in cells.items()}
            else:
                by = {Unit.DAY: By.DAY, Unit.WEEK: By.WEEK, Unit.MONTH: By.MONTH}[unit]
                first, sums = group_days(by, loaded.days, {n: v.sum(axis=1) for n, v in cells.items()}, site)
                keys = [(day, None) for day in first]
            found = metrics.figures(sums, names)
            opened = sums["open_minutes"]
            listed = [found[name].tolist() for name in names]
            for i in np.flatnonzero(opened > 0).tolist():
                day, hour = keys[i]
                yield (
                    room.building_id, room.id, room.number, room.capacity_on(day), day,
                    *((hour,) if unit is Unit.HOUR else ()),
                    *(values[i] for values in listed), DEFINITION,
                )  # fmt: skip


_BOOKING = (
    Column("building_id", "text", "Building."),
    Column("room_id", "text", "Room."),
    Column("room_number", "text", "Number on the door."),
    Column("capacity", "whole", "Seats on that day; empty: unknown."),
    Column("start", "time", "Planned start, local time with its offset from UTC."),
    Column("end", "time", "Planned end."),
    Column("title", "text", "Name of the event; empty where the reader may not see it."),
    Column("category", "text", "Kind of event, as the source calls it."),
    Column("series", "text", "Series in its source; empty for a single booking."),
    Column("expected", "whole", "People expected; empty: unknown."),
    Column("outcome", "text", "held, no_show, late_start, early_end, overrun, over_capacity or unknown."),
    Column("attendance", "people", "People, robust estimate of the plateau; empty: unknown or withheld."),
    Column("attendance_withheld", "flag", "1: a small group, withheld."),
    Column("fill", "ratio", "Attendance / capacity; empty: unknown or withheld."),
    Column("began", "time", "When half of the attendance was in."),
    Column("ended", "time", "When half of the attendance had gone."),
    Column("coverage", "ratio", "Share of the planned minutes that was measured."),
    Column("confidence", "ratio", "Confidence in the attendance, 0 to 1."),
    Column("release_minutes", "whole", "Minutes that a release policy could have given back."),
    Column("withdrawn_late", "flag", "1: cancelled or moved after it had begun."),
    Column("source", "text", "Scheduling system."),
    _DEFINITION,
    Column("matching", "text", "Version of the matching."),
)


def booking_export(
    store: Store,
    scope: Scope,
    *,
    titles: bool = True,
    withhold_below: int = 0,
    rules_of: RulesOf = default_rules,
    site: Site | None = None,
) -> Export:
    """One row for each booking. No booker's name is ever read.

    Args:
        titles: whether event names are written.
        withhold_below: attendance of 1 to this less 1 is withheld; ``disclosure.THRESHOLD`` for readers without need.
    """
    site = site or Site.load(store, scope.org_id)
    scope.choose(site)
    return Export(_BOOKING, _booking_rows(store, scope, titles, withhold_below, rules_of, site))


def _booking_rows(
    store: Store, scope: Scope, titles: bool, withhold_below: int, rules_of: RulesOf, site: Site
) -> Iterator[Row]:
    for room in scope.choose(site):
        for first, last in months(scope.start, scope.end):
            for row in booking_rows(store, site, room.id, first, last, rules_of):
                booking, found, i = row.booking, row.of.matches, row.index
                zone = row.of.calendar.zone
                if scope.weekdays and booking.start.astimezone(zone).weekday() not in scope.weekdays:
                    continue
                hidden = bool(disclosure.small(row.attendance, withhold_below))
                attendance = math.nan if hidden else row.attendance
                yield (
                    room.building_id, room.id, room.number, _whole(row.capacity),
                    booking.start.astimezone(zone), booking.end.astimezone(zone),
                    booking.title if titles else "", booking.category, booking.series if titles else "",
                    booking.expected_size, row.outcome.word, attendance, hidden,
                    attendance / row.capacity if row.capacity > 0 else math.nan,
                    _local(float(found.begin[i]), zone), _local(float(found.finish[i]), zone),
                    row.coverage, row.confidence, _whole(float(found.release[i])), row.late_withdrawn,
                    booking.source, DEFINITION, found.rules.version,
                )  # fmt: skip


def _whole(value: float) -> int | None:
    return None if math.isnan(value) else round(value)


def _local(minute: float, zone: ZoneInfo) -> datetime | None:
    return None if math.isnan(minute) else moment_of(round(minute)).astimezone(zone)


# --- how it is written ---------------------------------------------------------------------------------------------


def csv_stream(export: Export, language: Language, *, header: bool = True) -> Iterator[bytes]:
    """CSV in pieces, each of whole lines."""
    comma = language is Language.DUTCH
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, delimiter=";" if comma else ",", lineterminator="\r\n")
    kinds = [column.kind for column in export.columns]
    yield b"\xef\xbb\xbf"
    if header:
        writer.writerow([column.name for column in export.columns])
    for chunk in _chunks(export.rows):
        writer.writerows(
            [csv_cell(value, kind, comma=comma) for value, kind in zip(row, kinds, strict=True)] for row in chunk
        )
        yield buffer.getvalue().encode(errors="replace")
        buffer.seek(0)
        buffer.truncate()
    rest = buffer.getvalue()
    if rest:
        yield rest.encode(errors="replace")


def _chunks(rows: Iterable[Row]) -> Iterator[tuple[Row, ...]]:
    """``itertools.batched`` for Python 3.11."""
    iterator = iter(rows)
    while chunk := tuple(itertools.islice(iterator, _CHUNK_ROWS)):
        yield chunk


def csv_cell(value: Cell, kind: str, *, comma: bool) -> str:
    """One value as text; empty for no data."""
    if value is None:
        return ""
    if kind == "text":
        return safe_text(str(value))
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, float):
        if not math.isfinite(value):
            return ""
        text = f"{value:.{_DECIMALS.get(kind, 0)}f}"
        return text.replace(".", ",") if comma else text
    if isinstance(value, datetime):
        return value.isoformat(timespec="minutes")
    if isinstance(value, date):
        return value.isoformat()
    return str(value)


def safe_text(text: str) -> str:
    """Text that no spreadsheet runs as a formula, without bytes that break a line apart."""
    clean = text.replace("\0", "")
    if text.startswith(_RUN_AS_FORMULA) or clean.lstrip(" \u00a0").startswith(_RUN_AS_FORMULA):
        return "'" + clean
    return clean


def json_stream(export: Export) -> Iterator[bytes]:
    """One JSON document in pieces: definition, columns with their meaning, and rows as objects; null is no data."""
    columns = [{"name": c.name, "unit": c.kind, "meaning": c.meaning} for c in export.columns]
    names = [c.name for c in export.columns]
    head = json.dumps({"definition": DEFINITION, "columns": columns}, ensure_ascii=False)
    yield (head[:-1] + ', "rows": [').encode()
    separator = ""
    for chunk in _chunks(export.rows):
        lines = [json.dumps(dict(zip(names, map(_json, row), strict=True)), ensure_ascii=False) for row in chunk]
        yield (separator + ",\n".join(lines)).encode(errors="replace")
        separator = ",\n"
    yield b"]}\n"


def _json(value: Cell) -> str | int | float | bool | None:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value.isoformat() if isinstance(value, date) else value


def write_parquet(export: Export, path: Path | IO[bytes]) -> int:
    """Write Parquet in row groups, to a path or an open file; returns the rows written.

    Column meanings are in the schema's metadata.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"text": pa.string(), "whole": pa.int64(), "flag": pa.bool_(), "date": pa.date32(),
             "time": pa.timestamp("s", tz="UTC")}  # fmt: skip
    schema = pa.schema(
        [
            pa.field(c.name, types.get(c.kind, pa.float64()), metadata={"unit": c.kind, "meaning": c.meaning})
            for c in export.columns
        ],
        metadata={"definition": DEFINITION},
    )
    written = 0
    with pq.ParquetWriter(path, schema) as writer:
        for chunk in _chunks(export.rows):
            arrays = [
                pa.array([_arrow(value) for value in values], type=field.type)
                for values, field in zip(zip(*chunk, strict=True), schema, strict=True)
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            written += len(chunk)
    return written


def _arrow(value: Cell) -> Cell:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_file(export: Export, path: Path, kind: Format, language: Language) -> None:
    """Write a whole export under a temporary name and rename it: a reader sees all of it or the file before."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        if kind is Format.PARQUET:
            os.close(handle)
            write_parquet(export, temporary)
        else:
            stream = csv_stream(export, language) if kind is Format.CSV else json_stream(export)
            with os.fdopen(handle, "wb") as file:
                file.writelines(stream)
        temporary.replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise
