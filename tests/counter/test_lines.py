"""Lines: which way is in, what counts, and what never does."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from counter import Anchor, Direction, Line, LineCounter, Track

W, H = 1000, 1000
SIZE = 100.0
DT = 0.1


def track(x: float, y: float, ident: int = 1, hidden: bool = False, first: float = 0.0) -> Track:
    half = SIZE / 2
    return Track(ident, (x - half, y - half, x + half, y + half), 0.9, first, 0.0, hidden)


def walk(line: Line, points: Sequence[tuple[float, float]], dt: float = DT) -> list[str]:
    """Directions counted along a path of one confirmed track, its end included."""
    counter = LineCounter(line)
    crossings = []
    for i, (x, y) in enumerate(points):
        crossings += counter.update([track(x, y)], [], i * dt, W, H)
    crossings += counter.update([], [], len(points) * dt, W, H)
    return [c.direction.value for c in crossings]


def path(*corners: tuple[float, float], step: float = 20.0) -> list[tuple[float, float]]:
    points = [corners[0]]
    for (x1, y1), (x2, y2) in pairwise(corners):
        n = max(1, round(((x2 - x1) ** 2 + (y2 - y1) ** 2) ** 0.5 / step))
        points += [(x1 + (x2 - x1) * k / n, y1 + (y2 - y1) * k / n) for k in range(1, n + 1)]
    return points


# Somebody stands at the start of the line and looks along it to its end. Who walks from their left hand to their right
# hand enters. Image coordinates: y grows downwards.
@pytest.mark.parametrize(
    ("start", "end", "begin", "finish"),
    [
        # The line runs to the right of the picture: left of it is up, right of it is down.
        ((0.1, 0.5), (0.9, 0.5), (500, 200), (500, 800)),
        # It runs to the left: left is down, right is up.
        ((0.9, 0.5), (0.1, 0.5), (500, 800), (500, 200)),
        # It runs down: left is the right edge of the picture, right is its left edge.
        ((0.5, 0.1), (0.5, 0.9), (800, 500), (200, 500)),
        # It runs up: left is left, right is right.
        ((0.5, 0.9), (0.5, 0.1), (200, 500), (800, 500)),
        # It runs down and to the right: left is the upper right corner.
        ((0.1, 0.1), (0.9, 0.9), (700, 300), (300, 700)),
    ],
)
def test_from_left_to_right_seen_from_the_start_is_entered(
    start: tuple[float, float], end: tuple[float, float], begin: tuple[float, float], finish: tuple[float, float]
) -> None:
    line = Line(start, end)
    assert walk(line, path(begin, finish)) == ["entered"]
    assert walk(line, path(finish, begin)) == ["left"]


DOOR = Line((0.2, 0.5), (0.8, 0.5), "door")  # in is down
UP, DOWN = (500.0, 300.0), (500.0, 700.0)


@pytest.mark.parametrize(
    ("what", "points", "expected"),
    [
        ("walks through", path(UP, DOWN), ["entered"]),
        ("walks through and back", path(UP, DOWN, UP), ["entered", "left"]),
        ("turns back before the line", path(UP, (500, 480), UP), []),
        ("turns back on the line", path(UP, (500, 510), UP), []),
        ("stands on the line and goes back", path(UP, (500, 500)) + [(500, 500)] * 600 + path((500, 500), UP), []),
        (
            "stands on the line and goes on",
            path(UP, (500, 500)) + [(500, 500)] * 600 + path((500, 500), DOWN),
            ["entered"],
        ),
        ("sways on the line for ten minutes", path(UP, (500, 500)) + [(500, 490), (500, 510)] * 3000, []),
        ("walks along the line", path((250, 500), (750, 500)), []),
        ("walks around its end", path((300, 400), (100, 400), (100, 600), (300, 600)), []),
        ("touches its end with a shoulder", path((170, 300), (170, 700)), ["entered"]),
        ("passes far beyond its end", path((50, 300), (50, 700)), []),
        ("runs: two frames to cross", [UP, UP, (500, 440), (500, 560), DOWN, DOWN, DOWN], ["entered"]),
    ],
)
def test_truth_table(what: str, points: list[tuple[float, float]], expected: list[str]) -> None:
    assert walk(DOOR, points) == expected, what


def test_several_people_at_once_in_both_directions() -> None:
    counter = LineCounter(DOOR)
    crossings = []
    for i in range(40):
        y = 200 + 15 * i
        people = [track(300, y, 1), track(450, y, 2), track(600, 1000 - y, 3), track(700, 1000 - y, 4)]
        crossings += counter.update(people, [], i * DT, W, H)
    assert sorted((c.track_id, c.direction.value) for c in crossings) == [
        (1, "entered"),
        (2, "entered"),
        (3, "left"),
        (4, "left"),
    ]


def test_the_moment_is_that_of_the_line_not_of_settling() -> None:
    counter = LineCounter(DOOR)
    crossings = []
    for i in range(41):
        crossings += counter.update([track(500, 300 + 10 * i)], [], i * DT, W, H)
    assert [c.t for c in crossings] == pytest.approx([2.0])


def test_tentative_tracks_never_count() -> None:
    counter = LineCounter(DOOR)
    for i, (x, y) in enumerate(path(UP, DOWN, UP, DOWN)):
        assert counter.update([], [track(x, y)], i * DT, W, H) == []


def test_who_was_tentative_on_one_side_counts_when_confirmed_beyond() -> None:
    counter = LineCounter(DOOR)
    points = path(UP, DOWN)
    crossings = []
    for i, (x, y) in enumerate(points):
        young = y < 450
        crossings += counter.update([] if young else [track(x, y)], [track(x, y)] if young else [], i * DT, W, H)
    assert [c.direction for c in crossings] == [Direction.ENTERED]


def test_hidden_tracks_do_not_cross() -> None:
    counter = LineCounter(DOOR)
    crossings = []
    for i, (x, y) in enumerate(path(UP, DOWN)):
        crossings += counter.update([track(x, y, hidden=y > 450)], [], i * DT, W, H)
    assert crossings == []


def test_who_vanishes_in_mid_step_counts_and_who_vanishes_while_standing_does_not() -> None:
    for velocity, expected in (((0.0, 200.0), 1), ((0.0, 0.0), 0), ((0.0, -200.0), 0)):
        counter = LineCounter(DOOR)
        crossings = []
        approach = path(UP, (500, 505))
        for i, (x, y) in enumerate(approach):
            crossings += counter.update([track(x, y)], [], i * DT, W, H, {1: velocity})
        crossings += counter.update([], [], len(approach) * DT, W, H)
        assert len(crossings) == expected


def test_who_appears_at_the_edge_of_the_picture_came_from_beyond_a_line_near_it() -> None:
    line = Line((0.0, 0.92), (1.0, 0.92), "edge")  # in is below, so coming in from the bottom edge is leaving it
    counter = LineCounter(line)
    counter.update([], [], 0.0, W, H)
    crossings = []
    for i in range(1, 24):
        y = 980 - 20 * i
        box = (450.0, y - 50.0, 550.0, min(y + 50.0, float(H)))
        crossings += counter.update([Track(7, box, 0.9, 0.1, i * DT)], [], i * DT, W, H)
    assert [c.direction for c in crossings] == [Direction.LEFT]


def test_who_stands_at_the_edge_from_the_beginning_did_not_come_in() -> None:
    counter = LineCounter(Line((0.0, 0.97), (1.0, 0.97)))
    for i in range(100):
        assert counter.update([Track(7, (450.0, 850.0, 550.0, 1000.0), 0.9, 0.0, i * DT)], [], i * DT, W, H) == []


def test_anchor_decides_which_point_must_cross() -> None:
    points = [*path((500, 300), (500, 475)), *[(500.0, 475.0)] * 3]  # the feet cross, the centre does not
    assert walk(DOOR, points) == []
    feet = Line(DOOR.start, DOOR.end, anchor=Anchor.BOTTOM)
    assert walk(feet, points) == ["entered"]


# The rule as properties.

steps = st.lists(st.floats(-400, 400), min_size=2, max_size=60)


@settings(max_examples=300, deadline=None)
@given(steps, st.sampled_from([0.04, 0.1, 0.5, 1.0]))
def test_sum_of_crossings_is_the_change_of_the_settled_side(distances: list[float], dt: float) -> None:
    counter = LineCounter(DOOR)
    sides, net = [], 0
    for i, d in enumerate(distances):
        for c in counter.update([track(500, 500 + d)], [], i * dt, W, H):
            net += 1 if c.direction is Direction.ENTERED else -1
        side = counter.side(1)
        if side:
            sides.append(side)
            assert net == (side - sides[0]) // 2


@settings(max_examples=300, deadline=None)
@given(steps, st.sampled_from([0.04, 0.1, 0.5, 1.0]))
def test_directions_alternate(distances: list[float], dt: float) -> None:
    directions = walk(DOOR, [(500, 500 + d) for d in distances], dt)
    assert all(a != b for a, b in pairwise(directions))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([-1, 1]),
    st.lists(st.tuples(st.integers(4, 20), st.integers(1, 1), st.floats(-300, 300)), min_size=1, max_size=20),
)
def test_no_flicker_counts(side: int, bursts: list[tuple[int, int, float]]) -> None:
    """However far single frames jump, and even where the track ends with one: nobody walked."""
    points: list[tuple[float, float]] = []
    for calm, wild, jump in bursts:
        points += [(500, 500 + 100 * side)] * calm + [(500, 500 + jump)] * wild
    assert walk(DOOR, points) == []


@settings(max_examples=300, deadline=None)
@given(st.lists(st.floats(-14.9, 14.9), min_size=1, max_size=200), st.sampled_from([-1, 1]))
def test_loitering_in_the_band_counts_nothing(sway: list[float], side: int) -> None:
    begin = path((500, 500 + 200 * side), (500, 500 + 10 * side))
    assert walk(DOOR, begin + [(500, 500 + d) for d in sway]) == []


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1000), st.floats(0, 1000)), min_size=3, max_size=8),
    st.booleans(),
)
def test_turning_the_line_around_swaps_in_and_out(corners: list[tuple[float, float]], slow: bool) -> None:
    points = path(*corners, step=10 if slow else 40)
    there, back = walk(DOOR, points), walk(Line(DOOR.end, DOOR.start), points)
    swapped = [{"entered": "left", "left": "entered"}[d] for d in back]
    assert there == swapped


@settings(max_examples=100, deadline=None)
@given(st.floats(0.2, 3.0), st.integers(2, 25), st.floats(250, 750))
def test_a_real_passage_counts_once_at_any_speed_and_frame_rate(speed: float, fps: int, x: float) -> None:
    """``speed`` in body sizes a second."""
    assume(speed / fps < 3.0)
    n = int(600 / (speed * SIZE / fps)) + 2
    points = [(x, min(200 + i * speed * SIZE / fps, 800.0)) for i in range(n)] + [(x, 800.0)] * 3
    assert walk(DOOR, points, 1 / fps) == ["entered"]


def test_memory_is_that_of_the_tracks_alive() -> None:
    counter = LineCounter(DOOR)
    for i in range(20_000):
        counter.update([track(500, 300, ident=i)], [track(400, 300, ident=-i - 1)], i * DT, W, H)
        assert len(counter) <= 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0.1,0.2,0.3", "four numbers"),
        ("0.1,0.2,0.3,x", "four numbers"),
        ("0.1,0.2,1.3,0.4", "outside the frame"),
        ("nan,0.2,0.3,0.4", "outside the frame"),
        ("0.5,0.5,0.5,0.5", "same point"),
    ],
)
def test_wrong_lines_are_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Line.parse(text)
