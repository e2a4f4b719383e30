"""The scene file: what is valid, how faults are named, and that writing and reading gives the same scene."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from counter.scene import (
    MaskPainter,
    Scene,
    SceneError,
    dump_scene,
    line_from_text,
    load_scene,
    parse_scene,
    polygon_fault,
    save_scene,
    scene_faults,
    zone_from_text,
)

shares = st.floats(0, 1, allow_nan=False)
points = st.tuples(shares, shares)
grid = st.integers(0, 64).map(lambda v: v / 64)  # exact in binary: no rounding decides who is on an edge
names = st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="="), min_size=1, max_size=12)


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    unique = iter(draw(st.lists(names, min_size=6, max_size=6, unique=True)))
    lines = []
    for _ in range(draw(st.integers(0, 2))):
        start, end = draw(points), draw(points)
        assume(np.hypot(end[0] - start[0], end[1] - start[1]) > 0.03)
        line = {"name": next(unique), "start": start, "end": end, "dwell": draw(st.sampled_from([0.15, 1.0]))}
        lines.append(line | {"anchor": draw(st.sampled_from(["centre", "bottom", "top"]))})
    polygons: dict[str, list[object]] = {"zones": [], "masks": []}
    for kind in polygons:
        for _ in range(draw(st.integers(0, 2))):
            corners = draw(st.lists(points, min_size=3, max_size=6))
            assume(polygon_fault(corners) is None)
            polygons[kind].append({"name": next(unique), "points": corners})
    score = draw(st.none() | st.floats(0.05, 0.95))
    mode = draw(st.sampled_from(["door", "room"]))
    return parse_scene({"mode": mode, "min_score": score, "lines": lines, **polygons})


@settings(max_examples=40, deadline=None)
@given(scenes())
def test_writing_and_reading_gives_the_same_scene(scene: Scene) -> None:
    assert parse_scene(tomllib.loads(dump_scene(scene))) == scene


def test_a_saved_scene_explains_itself_and_nothing_else_is_left(tmp_path: Path) -> None:
    scene = parse_scene({"lines": [line_from_text('a "quoted" dörr=0.1,0.5,0.9,0.5')]})
    save_scene(scene, tmp_path / "scene.toml")
    assert load_scene(tmp_path / "scene.toml") == scene
    assert "is `entered`" in (tmp_path / "scene.toml").read_text()
    assert [p.name for p in tmp_path.iterdir()] == ["scene.toml"]


def test_options_survive_only_where_they_differ() -> None:
    line = {"name": "door", "start": [0.1, 0.5], "end": [0.9, 0.5]}
    assert "dwell" not in dump_scene(parse_scene({"lines": [line]}))
    text = dump_scene(parse_scene({"lines": [line | {"dwell": 0.5, "anchor": "bottom"}]}))
    assert 'anchor = "bottom"' in text
    assert "dwell = 0.5" in text


def test_the_counter_takes_what_the_scene_says() -> None:
    scene = parse_scene({
        "lines": [{"name": "door", "start": [0.1, 0.5], "end": [0.9, 0.5], "anchor": "top", "band": 0.3}],
        "zones": [{"name": "desk", "points": [[0, 0], [1, 0], [1, 1]], "leave_dwell": 3}],
    })  # fmt: skip
    (line,), (zone,) = scene.counting_lines(), scene.counting_zones()
    assert (line.name, line.start, line.end, line.anchor, line.band) == ("door", (0.1, 0.5), (0.9, 0.5), "top", 0.3)
    assert (zone.name, zone.points[1], zone.leave_dwell) == ("desk", (1.0, 0.0), 3)


@pytest.mark.parametrize(
    ("corners", "reason"),
    [
        ([(0, 0), (1, 0), (1, 1), (0, 1)], None),
        ([(0, 0), (1, 0), (0.2, 0.2), (0, 1)], None),  # not convex, but simple
        ([(0, 0), (1, 1), (1, 0), (0, 1)], "cross"),
        ([(0, 0), (0.5, 0.5), (1, 1)], "area"),
        ([(0, 0), (1, 0), (1, 1), (0, 0)], "twice"),
        ([(0, 0), (1, 0), (1, 1), (0.5, 0.0), (0, 1)], "cross"),  # a corner on another edge
    ],
)
def test_polygons(corners: list[tuple[float, float]], reason: str | None) -> None:
    fault = polygon_fault(corners)
    assert (fault is None) if reason is None else (fault is not None and reason in fault)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(grid, grid), min_size=3, max_size=7), st.integers(0, 6))
def test_a_polygon_is_as_good_from_any_corner_and_either_way(corners: list[tuple[float, float]], turn: int) -> None:
    turned = corners[turn % len(corners) :] + corners[: turn % len(corners)]
    assert (polygon_fault(corners) is None) == (polygon_fault(turned) is None) == (polygon_fault(corners[::-1]) is None)


def test_names_are_unique_over_lines_zones_and_masks() -> None:
    triangle = [[0, 0], [1, 0], [1, 1]]
    data = {
        "lines": [{"name": "a", "start": [0, 0], "end": [1, 1]}],
        "masks": [{"name": "a", "points": triangle}],
    }
    with pytest.raises(SceneError, match=r"'a' is given to a line and again to a mask"):
        parse_scene(data)


@pytest.mark.parametrize("name", ["", " door", "door ", "a=b", "a\nb", "x" * 41, "\x7f"])
def test_names_that_cannot_be(name: str) -> None:
    faults = scene_faults({"lines": [{"name": name, "start": [0, 0], "end": [1, 1]}]})
    assert [field for field, _ in faults] == ["lines[0].name"]


def test_all_faults_are_listed_for_the_page() -> None:
    data = {"mode": "x", "lines": [{"name": "a", "start": [0, 0], "end": [1, 7]}], "zones": [{"name": "b"}]}
    assert [field for field, _ in scene_faults(data)] == ["mode", "lines[0].end[1]", "zones[0].points"]


def test_text_of_the_command_line() -> None:
    assert line_from_text("0,0.5,1,0.5", 1) == {"name": "line-2", "start": [0, 0.5], "end": [1, 0.5]}
    assert line_from_text("front door=0,0,1,1")["name"] == "front door"
    assert zone_from_text("z=0,0,1,0,1,1")["points"] == [[0, 0], [1, 0], [1, 1]]
    for text in ("0,0,1", "0,0,1,1,1", "", "=,,,"):
        with pytest.raises(SceneError, match="--line"):
            line_from_text(text)


def test_masks_are_painted_in_place_and_nowhere_else() -> None:
    scene = parse_scene({"masks": [{"name": "m", "points": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]}]})
    frame = np.full((40, 80, 3), 200, np.uint8)
    assert MaskPainter(scene.masks)(frame) is frame
    assert (frame[:, :40] == 114).all()
    assert (frame[:, 42:] == 200).all()
