"""Packed buckets lose nothing and merging keeps the first value."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from analytics.domain.model import SLOT_DTYPE, SlotArray
from analytics.store import packing
from analytics.store.errors import StoreError

DAY = 1_772_409_600  # 2026-03-02T00:00Z


@st.composite
def slot_arrays(draw: st.DrawFn, min_size: int = 0) -> SlotArray:
    """Any slots of one day: narrow columns, wide ones, constant ones."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(min_size, 40))
    slots = np.zeros(n, dtype=SLOT_DTYPE)
    slots["start"] = DAY + np.sort(rng.choice(draw(st.sampled_from([60, 86_400])), n, replace=False))
    bounds = {"seconds": (1, 3600), "present": (-1, 100_000), "present_max": (-1, 100_000), "health": (1, 63)}
    bounds |= {"entered": (0, 100_000), "left": (0, 100_000), "coverage": (0, 10_000)}
    for name, (low, high) in bounds.items():
        slots[name] = rng.integers(low, draw(st.sampled_from([low, low + 1, high])), n, endpoint=True)
    return slots


@given(slot_arrays())
def test_slots_survive_packing(slots: SlotArray) -> None:
    assert np.array_equal(packing.unpack_slots(packing.pack_slots(slots)), slots)


@given(slot_arrays(), slot_arrays())
def test_merging_keeps_the_first_value_and_says_what_became_of_each(a: SlotArray, b: SlotArray) -> None:
    merged, outcome, standing = packing.merge_slots(a, b)
    expected = {int(row["start"]): row.tobytes() for row in a}
    for row, code, now in zip(b, outcome, standing, strict=True):
        before = expected.setdefault(int(row["start"]), row.tobytes())
        assert now.tobytes() == before
        was_there = int(row["start"]) in a["start"]
        same = before == row.tobytes()
        assert code == (packing.NEW if not was_there else packing.DUPLICATE if same else packing.CONFLICT)
    assert {int(row["start"]): row.tobytes() for row in merged} == expected
    assert (np.diff(merged["start"]) > 0).all()


@settings(max_examples=100)
@given(st.binary(max_size=80), st.booleans())
def test_damaged_bytes_are_an_error_and_nothing_else(junk: bytes, deflated: bool) -> None:
    for unpack in (packing.unpack_slots, packing.unpack_month):
        with pytest.raises(StoreError):
            unpack(zlib.compress(b"\x07" + junk) if deflated else b"\x07" + junk)


@given(st.data())
def test_a_cut_or_changed_bucket_never_reads_as_another_length(data: st.DataObject) -> None:
    packed = bytearray(packing.pack_slots(data.draw(slot_arrays(min_size=3))))
    place = data.draw(st.integers(0, len(packed) - 1))
    packed[place] ^= data.draw(st.integers(1, 255))
    try:
        slots = packing.unpack_slots(bytes(packed))
    except StoreError:
        return
    assert slots.dtype == SLOT_DTYPE  # zlib's checksum lets through only what decodes to the same


@given(
    st.sampled_from([1, 24, 96]),
    st.data(),
    st.sampled_from([255.0, 254.0, 65_535.0, 65_534.0, 2.0**31, 1e12, -1.0, 0.5]),
)
def test_a_month_survives_packing(k: int, data: st.DataObject, edge: float) -> None:
    values = data.draw(
        hnp.arrays(
            np.float64,
            (packing.DAYS, k),
            elements=st.sampled_from([np.nan, 0.0, 1.0, 60.0, edge]),
            fill=st.just(np.nan),
        )
    )
    assert np.array_equal(packing.unpack_month(packing.pack_month(values)), values, equal_nan=True)


def test_a_measured_day_takes_about_a_kilobyte() -> None:
    rng = np.random.default_rng(3)
    slots = np.zeros(900, dtype=SLOT_DTYPE)
    slots["start"], slots["seconds"], slots["health"] = DAY + np.arange(900) * 60, 60, 1
    slots["present"] = np.clip(np.cumsum(rng.integers(-1, 2, 900)), 0, None)
    slots["present_max"], slots["coverage"] = slots["present"], 10_000
    slots["entered"] = slots["left"] = rng.poisson(0.2, 900)
    assert len(packing.pack_slots(slots)) < 1_100
