"""Zones: the polygon test, the dwell on both sides, and memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from counter import Track, Zone, ZoneCounter

W = H = 1000
SQUARE = Zone("square", ((0.4, 0.4), (0.6, 0.4), (0.6, 0.6), (0.4, 0.6)), enter_dwell=0.5, leave_dwell=0.5)
STAR = Zone("u", ((0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.7, 0.9), (0.7, 0.3), (0.3, 0.3), (0.3, 0.9), (0.1, 0.9)))


def track(x: float, y: float, ident: int = 1, first: float = 0.0) -> Track:
    return Track(ident, (x - 20, y - 40, x + 20, y + 40), 0.9, first, 0.0)


def presence(points: list[tuple[float, float]], dt: float = 0.1) -> list[int]:
    counter = ZoneCounter(SQUARE)
    return [len(counter.update([track(x, y)], i * dt, W, H)) for i, (x, y) in enumerate(points)]


IN, OUT = (500.0, 500.0), (100.0, 100.0)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([IN] * 10, [0] * 5 + [1] * 5),
        ([OUT] * 10, [0] * 10),
        ([OUT] * 5 + [IN] * 4 + [OUT] * 5, [0] * 14),  # passes by
        ([IN] * 10 + [OUT] * 3 + [IN] * 5, [0] * 5 + [1] * 13),  # sways on the edge
        ([IN] * 10 + [OUT] * 10, [0] * 5 + [1] * 10 + [0] * 5),
    ],
)
def test_dwell(points: list[tuple[float, float]], expected: list[int]) -> None:
    assert presence(points) == expected


def test_the_time_as_a_tentative_track_counts_towards_the_dwell() -> None:
    counter = ZoneCounter(SQUARE)
    assert counter.update([track(*IN, first=9.0)], 10.0, W, H) == {1}


@settings(max_examples=300, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1))
def test_points_in_a_concave_polygon(x: float, y: float) -> None:
    inside = 0.1 < x < 0.9 and 0.1 < y < 0.9 and not (0.3 < x < 0.7 and y > 0.3)
    on_edge = min(abs(v - e) for v in (x, y) for e in (0.1, 0.3, 0.7, 0.9)) < 1e-6
    if not on_edge:
        assert bool(ZoneCounter(STAR).contains(np.array([[x, y]]))[0]) == inside


def test_memory_is_that_of_the_tracks_alive() -> None:
    counter = ZoneCounter(SQUARE)
    for i in range(5000):
        counter.update([track(*IN, ident=i)], i * 0.1, W, H)
        assert len(counter._stays) == 1


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("", "0,0,1,0,1,1", "name is empty"),
        ("z", "0,0,1,0", "3 corners"),
        ("z", "0,0,1,0,1", "pairs"),
        ("z", "0,0,1,0,2,1", "outside the frame"),
        ("z", "0,0,0.5,0.5,1,1", "no area"),
        ("z", "0,0,a,0,1,1", "expected numbers"),
    ],
)
def test_wrong_zones_are_refused_with_the_reason(name: str, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Zone.parse(text, name)
