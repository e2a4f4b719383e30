"""What both stores do with buckets of counts once they have read them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime

import numpy as np
import numpy.typing as npt

from analytics.domain.model import CountOutcome, DayRollup, FloatArray, RollupTable, SlotArray
from analytics.store import packing
from analytics.store.base import OUTCOMES
from analytics.store.documents import day_number, day_of, divmod_month, month_number, to_ms
from analytics.store.errors import StoreError

_MEASURE = re.compile(r"[a-z][a-z0-9_]*")  # also a field's name in both stores
_LONGEST = 3600  # seconds a record can span: it may have begun on the day before


def in_order(
    grouped: Mapping[str, tuple[SlotArray, npt.NDArray[np.int64]]],
    codes: Mapping[str, npt.NDArray[np.uint8]],
    n: int,
) -> list[CountOutcome]:
    """Outcomes by sensor back in the order in which the records came."""
    outcomes = np.empty(n, dtype=np.uint8)
    for sensor, (_, places) in grouped.items():
        outcomes[places] = codes[sensor]
    return [OUTCOMES[code] for code in outcomes]


def days_of(start: datetime, end: datetime) -> tuple[int, int]:
    """First and last UTC day whose buckets can overlap ``[start, end)``."""
    first = (to_ms(start) // 1000 - _LONGEST) // packing.SECONDS_PER_DAY
    return first, (to_ms(end) - 1) // 1000 // packing.SECONDS_PER_DAY


def joined(
    rows: Iterable[tuple[str, bytes]], sensor_ids: Collection[str], start: datetime, end: datetime
) -> dict[str, SlotArray]:
    """Buckets, sorted by sensor and day, as one array a sensor, cut to what overlaps ``[start, end)``."""
    pieces: dict[str, list[SlotArray]] = {sensor: [] for sensor in sensor_ids}
    for sensor, data in rows:
        pieces[sensor].append(packing.unpack_slots(data))
    first, last = start.timestamp(), end.timestamp()
    result: dict[str, SlotArray] = {}
    for sensor, parts in pieces.items():
        slots = np.concatenate(parts) if parts else packing.empty_slots()
        inside = (slots["start"] < last) & (slots["start"] + slots["seconds"] > first)
        result[sensor] = slots if inside.all() else slots[inside]
    return result


def by_month(rollups: Collection[DayRollup]) -> dict[tuple[str, str, int], dict[str, dict[int, FloatArray]]]:
    """(room, definition, month) to measure to day of the month (0 to 30) to values, shape (k,)."""
    months: dict[tuple[str, str, int], dict[str, dict[int, FloatArray]]] = {}
    for rollup in rollups:
        month = months.setdefault((rollup.room_id, rollup.definition, month_number(rollup.day)), {})
        for measure, values in rollup.measures.items():
            if not _MEASURE.fullmatch(measure):
                raise ValueError(f"measure {measure!r}: a name is lower-case letters, digits and underscores")
            array = np.asarray(values, dtype=np.float64)
            if array.ndim != 1 or not len(array):
                raise ValueError(f"measure {measure!r} of room {rollup.room_id!r} has shape {array.shape}, not (k,)")
            month.setdefault(measure, {})[rollup.day.day - 1] = array
    return months


def table(
    rows: Iterable[tuple[str, int, str, bytes]],
    room_ids: Sequence[str],
    start: date,
    end: date,
    definition: str,
    measures: Sequence[str],
) -> RollupTable:
    """(room, month, measure, packed month) rows as arrays of shape (rooms, days, k)."""
    n_days = max((end - start).days, 0)
    first = day_number(start)
    place = {room: index for index, room in enumerate(room_ids)}
    found: dict[str, list[tuple[int, int, bytes]]] = {}
    for room, month, measure, data in rows:
        found.setdefault(measure, []).append((place[room], month, data))
    arrays = {measure: _laid_out(months, measure, (len(room_ids), n_days), first) for measure, months in found.items()}
    for measure in measures:
        if measure not in arrays:
            arrays[measure] = np.full((len(room_ids), n_days, 24), np.nan)
    days = tuple(day_of(first + index) for index in range(n_days))
    return RollupTable(tuple(room_ids), days, definition, arrays)


def _laid_out(months: Sequence[tuple[int, int, bytes]], measure: str, shape: tuple[int, int], first: int) -> FloatArray:
    """Packed months, (room, month number, bytes), as shape (rooms, days, k); day 0 is day number ``first``."""
    rooms = np.array([room for room, _, _ in months])
    begins = {month: day_number(date(*divmod_month(month), 1)) - first for month in {m for _, m, _ in months}}
    offsets = np.array([begins[month] for _, month, _ in months])
    groups = packing.unpack_months([data for _, _, data in months])
    widths = {values.shape[1] for _, _, values in groups}
    if len(widths) > 1:
        raise StoreError(
            f"measure {measure!r} is stored with {sorted(widths)} values a day: give the new one a new name"
        )
    array = np.full((*shape, widths.pop()), np.nan)
    for which, day, values in groups:
        column = offsets[which] + day
        inside = (column >= 0) & (column < shape[1])
        if inside.all():
            array[rooms[which], column] = values
        else:
            array[rooms[which[inside]], column[inside]] = values[inside]
    return array


def months_between(start: date, end: date) -> tuple[int, int]:
    """First and last month number of the days ``[start, end)``."""
    return month_number(start), month_number(day_of(day_number(end) - 1))
