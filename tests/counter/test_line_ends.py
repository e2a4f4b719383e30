"""Who leaves the picture beside a line has not crossed it, however they were heading."""

from __future__ import annotations

import pytest

from counter.lines import Line, LineCounter
from counter.types import Crossing, Track


def walk_and_vanish(x: float) -> list[Crossing]:
    """Somebody walks down at ``x`` towards a line at half height and is lost just above it."""
    counter = LineCounter(Line((0.05, 0.5), (0.5, 0.5)))
    found: list[Crossing] = []
    for i in range(20):
        t, y = i / 10, 20 + 4 * i
        track = Track(1, (x - 20, y - 20.0, x + 20, y + 20.0), 0.9, 0.0, t)
        found += counter.update([track], [], t, 400, 200, {1: (0.0, 40.0)})
    return found + counter.update([], [], 2.0, 400, 200)


@pytest.mark.parametrize(("x", "count"), [(100.0, 1), (190.0, 1), (330.0, 0)])
def test_the_ends_of_a_line_hold_for_people_who_vanish_too(x: float, count: int) -> None:
    assert len(walk_and_vanish(x)) == count
