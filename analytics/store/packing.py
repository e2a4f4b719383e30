"""Packed buckets, the same bytes in both stores: a sensor's UTC day of counts, a room's month of one measure.

Columns are narrowed to the smallest integers that hold them and deflated: a measured day of a busy room takes about a
kilobyte instead of the 27 bytes a minute of the plain array. The layout carries a version byte; readers accept every
version ever written.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from analytics.domain.model import COVERAGE_SCALE, HEALTH_BITS, NOT_OBSERVED, SLOT_DTYPE, FloatArray, SlotArray
from analytics.store.errors import StoreError
from uplink.messages import CountRecord

SECONDS_PER_DAY = 86_400
NEW, DUPLICATE, CONFLICT = 0, 1, 2

_VERSION = 1
_HEADER = struct.Struct("<BI")  # version, number of slots
_COLUMN = struct.Struct("<Bq")  # code of the width, smallest value
_WIDTHS: tuple[np.dtype[np.unsignedinteger[Any]], ...] = (
    np.dtype("u1"),
    np.dtype("<u2"),
    np.dtype("<u4"),
    np.dtype("<u8"),
)
_CONSTANT = 255
_MONTH = struct.Struct("<BBHI")  # version, code of the width, values a day, bit set of the days present
_MONTH_DTYPE = np.dtype([("version", "u1"), ("code", "u1"), ("k", "<u2"), ("bits", "<u4")])
_FLOAT = 254
DAYS = 31

IntArray = npt.NDArray[np.int64]


def empty_slots() -> SlotArray:
    """No slots: shape (0,), SLOT_DTYPE."""
    return np.empty(0, dtype=SLOT_DTYPE)


def slots_from_records(records: Sequence[CountRecord]) -> dict[str, tuple[SlotArray, IntArray]]:
    """Records by sensor as slots, shape (n,), in the order given, and where in ``records`` each one stood.

    Coverage is kept to 1/10 000: finer differences are below what a sensor can tell and are the same value here.
    """
    rows: dict[str, list[tuple[Any, ...]]] = {}
    places: dict[str, list[int]] = {}
    for place, record in enumerate(records):
        present = NOT_OBSERVED if record.present is None else record.present
        highest = NOT_OBSERVED if record.present_max is None else record.present_max
        rows.setdefault(record.sensor_id, []).append(
            (
                int(record.start.timestamp()),
                record.seconds,
                present,
                highest,
                record.entered,
                record.left,
                round(record.coverage * COVERAGE_SCALE),
                sum(HEALTH_BITS[flag] for flag in record.health),
            )
        )
        places.setdefault(record.sensor_id, []).append(place)
    return {
        sensor: (np.array(values, dtype=SLOT_DTYPE), np.array(places[sensor], dtype=np.int64))
        for sensor, values in rows.items()
    }


def split_days(slots: SlotArray) -> dict[int, IntArray]:
    """UTC day (days since 1970) to the indices of its slots, in the order given."""
    days = slots["start"] // SECONDS_PER_DAY
    if len(days) and (days == days[0]).all():
        return {int(days[0]): np.arange(len(days))}
    return {int(day): np.flatnonzero(days == day) for day in np.unique(days)}


def merge_slots(stored: SlotArray, offered: SlotArray) -> tuple[SlotArray, npt.NDArray[np.uint8], SlotArray]:
    """Put offered slots beside the stored ones; the first value of a slot stays, whoever came first.

    Returns the merged bucket sorted by start, an outcome for each offered slot (NEW, DUPLICATE, CONFLICT) and, aligned
    with ``offered``, the value that stands for its slot now.
    """
    together = np.concatenate([stored, offered])
    _, first, inverse = np.unique(together["start"], return_index=True, return_inverse=True)
    merged = together[first]
    slot = inverse.reshape(-1)[len(stored) :]
    standing = merged[slot]
    outcome = np.where(standing == offered, DUPLICATE, CONFLICT).astype(np.uint8)
    outcome[first[slot] == np.arange(len(stored), len(together))] = NEW
    return merged, outcome, standing


def pack_slots(slots: SlotArray) -> bytes:
    """Slots of one bucket, sorted by start, as bytes."""
    parts = [_HEADER.pack(_VERSION, len(slots))]
    for name in SLOT_DTYPE.names or ():
        column = slots[name].astype(np.int64)
        if name == "start":  # regular steps become a constant
            column = np.diff(column, prepend=column[:1] * 0)
            parts.append(struct.pack("<q", int(column[0]) if len(column) else 0))
            column = column[1:]
        parts.append(_pack_column(column))
    return zlib.compress(b"".join(parts), 1)


def unpack_slots(blob: bytes) -> SlotArray:
    """The reverse of `pack_slots`. Raises StoreError for bytes that it did not write."""
    try:
        data = zlib.decompress(blob)
        version, n = _HEADER.unpack_from(data)
        if version != _VERSION:
            raise StoreError(f"a bucket has layout {version}; this program knows {_VERSION}: upgrade it")
        slots = np.empty(n, dtype=SLOT_DTYPE)
        (first,) = struct.unpack_from("<q", data, _HEADER.size)
        at = _HEADER.size + 8
        for name in SLOT_DTYPE.names or ():
            column, at = _unpack_column(data, at, n - 1 if name == "start" and n else n)
            if name == "start":
                if n:
                    slots["start"][0] = first
                    np.cumsum(column, out=slots["start"][1:])
                    slots["start"][1:] += first
            else:
                slots[name] = column
    except (zlib.error, struct.error, ValueError, IndexError) as error:
        raise StoreError(f"a bucket of counts is damaged: {error}") from error
    return slots


def _pack_column(column: IntArray) -> bytes:
    lowest = int(column.min()) if len(column) else 0
    span = int(column.max()) - lowest if len(column) else 0
    if span == 0:
        return _COLUMN.pack(_CONSTANT, lowest)
    code = _code(span)
    return _COLUMN.pack(code, lowest) + (column - lowest).astype(_WIDTHS[code]).tobytes()


def _unpack_column(data: bytes, at: int, n: int) -> tuple[Any, int]:
    """Column and where the next one begins."""
    code, lowest = _COLUMN.unpack_from(data, at)
    at += _COLUMN.size
    if code == _CONSTANT:
        return np.full(n, lowest, dtype=np.int64), at
    width = _WIDTHS[code]
    return np.frombuffer(data, dtype=width, count=n, offset=at).astype(np.int64) + lowest, at + n * width.itemsize


def _code(highest: int) -> int:
    return next(code for code, width in enumerate(_WIDTHS) if highest <= np.iinfo(width).max)


# --- a month of one measure ----------------------------------------------------------------------------------------


def empty_month(k: int) -> FloatArray:
    """Shape (31, k), all unknown."""
    return np.full((DAYS, k), np.nan)


def pack_month(values: FloatArray) -> bytes:
    """A month of one measure, shape (31, k), NaN where unknown. Whole numbers are exact and small, others float64."""
    values = np.asarray(values, dtype=np.float64)
    known = ~np.isnan(values)
    present = np.flatnonzero(known.any(axis=1))
    kept = values[present]
    finite = kept[known[present]]
    highest = finite.max(initial=0.0)
    whole = bool(np.all(finite >= 0) and highest < 2**31 and np.all(finite == np.floor(finite)))
    bits = sum(1 << int(day) for day in present)
    if not whole:
        return _MONTH.pack(_VERSION, _FLOAT, values.shape[1], bits) + zlib.compress(kept.astype("<f8").tobytes(), 1)
    code = _code(int(highest) + 1)
    width = _WIDTHS[code]
    narrow = np.where(known[present], np.nan_to_num(kept), np.iinfo(width).max).astype(width)
    return _MONTH.pack(_VERSION, code, values.shape[1], bits) + zlib.compress(narrow.tobytes(), 1)


def unpack_month(blob: bytes) -> FloatArray:
    """The reverse of `pack_month`: shape (31, k). Raises StoreError for bytes that it did not write."""
    ((_, days, values),) = unpack_months([blob])
    month = empty_month(values.shape[1])
    month[days] = values
    return month


def unpack_months(blobs: Sequence[bytes]) -> list[tuple[IntArray, IntArray, FloatArray]]:
    """Many months at once: what a heat map of a thousand rooms waits for.

    Returns groups of (which blob, shape (n,), day of the month 0 to 30, shape (n,), values, shape (n, k)): one row for
    each day that is present. Raises StoreError for damaged bytes.
    """
    try:
        headers = np.frombuffer(b"".join([blob[: _MONTH.size] for blob in blobs]), dtype=_MONTH_DTYPE)
        if len(headers) != len(blobs):
            raise ValueError("cut short")
        result = []
        for header in np.unique(headers[["version", "code", "k"]]):
            version, code, k = (int(value) for value in header)
            if version != _VERSION or not k or (code != _FLOAT and code >= len(_WIDTHS)):
                raise StoreError(f"a roll-up has layout {version}.{code}; this program knows {_VERSION}: upgrade it")
            which = np.flatnonzero((headers["code"] == code) & (headers["k"] == k))
            present = (headers["bits"][which, np.newaxis] >> np.arange(DAYS, dtype=np.uint32)) & 1
            row, day = np.nonzero(present)
            data = b"".join([zlib.decompress(blobs[index][_MONTH.size :]) for index in which.tolist()])
            result.append((which[row], day, _month_values(data, code).reshape(len(row), k)))
    except (zlib.error, ValueError) as error:
        raise StoreError(f"a roll-up is damaged: {error}") from error
    return result


def _month_values(data: bytes, code: int) -> FloatArray:
    if code == _FLOAT:
        return np.frombuffer(data, dtype="<f8")
    narrow = np.frombuffer(data, dtype=_WIDTHS[code])
    values = narrow.astype(np.float64)
    values[narrow == np.iinfo(_WIDTHS[code]).max] = np.nan
    return values


def merge_month(stored: bytes | None, days: Mapping[int, FloatArray]) -> bytes:
    """A stored month with some days (0 to 30) replaced. The number of values a day is that of the newest write."""
    k = len(next(iter(days.values())))
    month = unpack_month(stored) if stored else empty_month(k)
    if month.shape[1] != k:
        month = empty_month(k)
    for day, values in days.items():
        month[day] = values
    return pack_month(month)
