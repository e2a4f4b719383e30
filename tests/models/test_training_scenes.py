"""The renderer: lenses, visibility, people, labels that are exactly what can be seen, and the committed clips."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the renderer needs numba (extra 'training')")

from models.training.render import Studio, to_sample
from models.training.scenes.assets import BONES, PARENTS, Assets
from models.training.scenes.camera import FISHEYE, PANORAMA, PERSPECTIVE, Camera, look, look_at, pixel_ray
from models.training.scenes.clips import PRESENT_PIXELS, Walk, door_clip, present, runs
from models.training.scenes.layouts import LAYOUTS, compose
from models.training.scenes.people import Cast
from models.training.scenes.picture import Backdrops, Person, render
from models.training.scenes.poses import between, bone_rotations, sitting, standing, walking
from models.training.scenes.raster import rasterise, silhouettes, visible_extents

CLIPS = Path(__file__).parents[1] / "clips"
NOWHERE = np.zeros(3, np.float32)


@pytest.fixture(scope="session")
def studio(data_folder: Path) -> Studio:
    return Studio(data_folder, 1, (192, 128), supersample=1.0)


# --- lenses ---------------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([PERSPECTIVE, FISHEYE, PANORAMA]),
    st.floats(-math.pi, math.pi), st.floats(-1.2, 1.5), st.floats(-0.1, 0.0), st.floats(20, 300), st.floats(20, 200),
)  # fmt: skip
def test_a_point_on_the_ray_of_a_pixel_projects_to_that_pixel(
    kind: int, yaw: float, pitch: float, k1: float, x: float, y: float
) -> None:
    camera = Camera(
        kind, 320, 220, 180.0 if kind != FISHEYE else 110.0, k1, np.array([1, 2, 3], np.float32), look(yaw, pitch)
    )
    dx, dy, dz, ok = pixel_ray(camera.packed(), x, y)
    point = np.array([[1 + 2.5 * dx, 2 + 2.5 * dy, 3 + 2.5 * dz]], np.float32)
    u, v, distance, seen = camera.project(point)[0]
    assert ok == seen == 1
    assert abs(u - x) < 0.1
    assert abs(v - y) < 0.1
    assert distance == pytest.approx(2.5, abs=1e-3)


def test_views_are_not_mirrored() -> None:
    """Who faces the camera (along -z from in front of it) has the left hand (+x) on the picture's right."""
    at = np.array([0, 1.5, 4], np.float32)
    camera = Camera(PERSPECTIVE, 200, 100, 100.0, 0.0, at, look_at(at, np.array([0, 1.5, 0], np.float32)))
    left_hand, head = camera.project(np.array([[0.5, 1.5, 0], [0, 2.0, 0]], np.float32))
    assert left_hand[0] > 100
    assert head[1] < 50


# --- visibility -----------------------------------------------------------------------------------------------------


def _square(x0: float, y0: float, x1: float, y1: float, distance: float) -> tuple[np.ndarray, np.ndarray]:
    points = np.array(
        [[x0, y0, distance, 1], [x1, y0, distance, 1], [x1, y1, distance, 1], [x0, y1, distance, 1]], np.float32
    )
    return points, np.array([[0, 1, 2], [0, 2, 3]], np.int32)


def test_what_stands_in_front_hides_exactly_its_own_area() -> None:
    far, t1 = _square(10, 10, 50, 50, 5.0)
    near, t2 = _square(30, 0, 60, 64, 2.0)
    points, triangles = np.concatenate([far, near]), np.concatenate([t1, t2 + 4]).astype(np.int32)
    owner = np.array([0, 0, 1, 1], np.int32)
    depth, seen = np.zeros((64, 64), np.float32), np.full((64, 64), -1, np.int32)
    rasterise(points, triangles, depth, seen)
    count, box = visible_extents(seen, owner, 2)
    full = silhouettes(points, triangles, owner, 2, np.full((64, 64), -1, np.int32))
    assert list(full) == [40 * 40, 30 * 64]
    assert list(count) == [20 * 40, 30 * 64]
    assert list(box[0]) == [10, 10, 29, 49]
    assert depth[20, 40] == pytest.approx(0.5)


def test_a_stray_strand_does_not_stretch_the_extent() -> None:
    seen = np.full((200, 200), -1, np.int32)
    seen[50:150, 50:150] = 0
    seen[10, 100] = 0
    _, box = visible_extents(seen, np.zeros(1, np.int32), 1)
    assert list(box[0]) == [50, 50, 149, 149]


# --- people ---------------------------------------------------------------------------------------------------------


def test_bones_come_after_their_parents() -> None:
    assert all(parent < k for k, parent in enumerate(PARENTS))
    assert len({name for name, _ in BONES}) == len(BONES)


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.floats(-1, 1)] * 3), st.tuples(*[st.floats(-1, 1)] * 3))
def test_between_turns_one_direction_into_the_other(
    a: tuple[float, float, float], b: tuple[float, float, float]
) -> None:
    u, v = np.array(a), np.array(b)
    if np.linalg.norm(u) < 0.1 or np.linalg.norm(v) < 0.1:
        return
    rotation = between(a, b)
    assert np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-5)
    if u @ v / np.linalg.norm(u) / np.linalg.norm(v) > -0.999:
        assert np.allclose(rotation @ u / np.linalg.norm(u), v / np.linalg.norm(v), atol=1e-5)


@pytest.mark.parametrize("pose", [standing(np.random.default_rng(1)), sitting(np.random.default_rng(2)), walking(1.0)])
def test_poses_are_rotations(pose: object) -> None:
    turns = bone_rotations(pose)  # type: ignore[arg-type]
    assert np.allclose(turns @ turns.transpose(0, 2, 1), np.eye(3), atol=1e-4)
    assert np.allclose(np.linalg.det(turns), 1, atol=1e-4)


@pytest.mark.footage
def test_people_are_of_human_size_and_stand_on_the_floor(data_folder: Path) -> None:
    cast = Cast(Assets(data_folder / "makehuman"), 1, 50)
    heights = []
    for k in range(4):
        person = cast.get(k)
        heights.append(person.height)
        up = person.posed(standing(np.random.default_rng(k)))
        assert up[:, 1].min() == pytest.approx(0, abs=1e-4)
        assert up[:, 1].max() > 0.8 * person.height
        down = person.posed(sitting(np.random.default_rng(k), 0.45))
        assert down[person.head_vertices, 1].max() < 0.92 * person.height
        assert np.ptp(down[:, 0]) < 2.2
        assert person.triangles.max() < len(person.rest)
        assert person.part_of.max() < len(person.parts)
        assert np.allclose(person.bone_weight.sum(1), 1, atol=1e-4)
    assert all(1.0 < h < 2.2 for h in heights)
    assert len(set(heights)) == len(heights)


@pytest.mark.footage
def test_assets_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="MakeHuman"):
        Assets(tmp_path)


# --- pictures and labels --------------------------------------------------------------------------------------------


@pytest.mark.footage
def test_the_same_seed_gives_the_same_bytes(studio: Studio, data_folder: Path) -> None:
    again = Studio(data_folder, 1, (192, 128), supersample=1.0)
    a, b = to_sample(studio.picture(5)), to_sample(again.picture(5))
    assert a.image.tobytes() == b.image.tobytes()
    assert a.labels.tobytes() == b.labels.tobytes()
    assert a.image.tobytes() != studio.picture(6).image.tobytes()


@pytest.mark.footage
@pytest.mark.parametrize("kind", ["corridor", "door", "lobby"])
def test_boxes_hold_what_the_person_changes_in_the_picture(studio: Studio, kind: str) -> None:
    """One person: the box lies in the frame and is filled as a body fills it; the pixels in it change without them."""
    for seed in range(20):
        scene = compose(np.random.default_rng([seed, 4]), (192, 128), studio.backdrops, studio.cast.size, kind)
        with_person = render(replace(scene, people=scene.people[:1]), studio.cast, studio.backdrops, 1.0)
        if with_person.people:
            break
    (person,) = with_person.people
    x0, y0, x1, y1 = person.box
    assert 0 <= x0 < x1 <= 192
    assert 0 <= y0 < y1 <= 128
    assert 0 < person.visible <= 1.0
    area = (x1 - x0) * (y1 - y0)
    assert 0.15 * area < person.pixels <= area * 1.01
    assert person.in_frame <= 1.0
    without = render(replace(scene, people=[]), studio.cast, studio.backdrops, 1.0)
    change = np.abs(with_person.image.astype(int) - without.image).max(2)
    inside = change[round(y0) : round(y1), round(x0) : round(x1)]
    assert (inside > 8).sum() > 0.3 * person.pixels


@pytest.mark.footage
@pytest.mark.parametrize("kind", list(LAYOUTS))
def test_every_kind_of_scene_renders(studio: Studio, kind: str) -> None:
    scene = compose(np.random.default_rng([9, 1]), (192, 128), studio.backdrops, studio.cast.size, kind)
    scene.people = scene.people[:3]
    picture = render(scene, studio.cast, studio.backdrops, 1.0)
    assert picture.image.shape == (128, 192, 3)
    assert picture.image.std() > 3
    assert picture.kind.startswith(kind) or kind == "photographed"


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ValueError, match="kitchen"):
        compose(np.random.default_rng(1), (64, 64), Backdrops(None), 10, "kitchen")


# --- clips ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 5), max_size=60))
def test_runs_say_the_same_as_the_list(counts: list[int]) -> None:
    out: list[int] = []
    for first, last, n in runs(counts):
        assert first == len(out)
        out += [n] * (last - first + 1)
    assert out == counts


def test_presence_follows_its_rule() -> None:
    person = Person(0, (0, 0, 1, 1), (0, 0, 1, 1), 0.9, 1.0, PRESENT_PIXELS, (0, 0))
    assert present((person, replace(person, visible=0.2), replace(person, pixels=3))) == 1


def test_a_walk_goes_where_it_says() -> None:
    walk = Walk(3, ((0, 0), (0, 2), (1, 2)), 1.0, 1.0, {1: 2.0}, {}, 7, 5)
    assert walk.at(0.5, 1.7) is None
    halfway, resting, last = walk.at(2.0, 1.7), walk.at(4.0, 1.7), walk.at(5.5, 1.7)
    assert halfway is not None
    assert (halfway.x, halfway.z) == (0, pytest.approx(1.0))
    assert resting is not None
    assert (resting.x, resting.z) == (0, 2)
    assert last is not None
    assert (last.x, last.z) == (pytest.approx(0.5), 2)
    assert walk.at(6.0, 1.7) is None


@pytest.mark.footage
def test_crossings_of_a_door_clip_balance_with_the_sides(studio: Studio) -> None:
    clip = door_clip(11, studio.backdrops, studio.cast, seconds=12, people=4)
    crossings = clip.crossings(studio.cast)
    assert clip.line_z is not None
    for walk in clip.walks:
        net = sum(1 if c["direction"] == "entered" else -1 for c in crossings if c["person"] == walk.identity)
        first, last = walk.points[0][1] - clip.line_z, walk.points[-1][1] - clip.line_z
        if walk.end() < clip.seconds:
            assert net == (int(first > 0) - int(last > 0))


@pytest.mark.parametrize("name", ["door-overhead-rendered", "meeting-room-rendered"])
def test_committed_clips_agree_with_their_truth(name: str) -> None:
    truth = json.loads((CLIPS / f"{name}.json").read_text(encoding="utf-8"))
    video = cv2.VideoCapture(str(CLIPS / f"{name}.mp4"))
    frames = 0
    while video.read()[0]:
        frames += 1
    assert frames == truth["frames"] == len(truth["people"])
    assert video.get(cv2.CAP_PROP_FPS) == pytest.approx(truth["fps"])
    assert truth["present"][-1][1] == frames - 1
    assert max(n for _, _, n in truth["present"]) == truth["max_present"]
    for frame in truth["people"]:
        for _, x0, y0, x1, y1, visible in frame:
            assert 0 <= x0 < x1 <= truth["width"]
            assert 0 <= y0 < y1 <= truth["height"]
            assert 0 < visible <= 1
    for crossing in truth["crossings"]:
        # the box goes down the picture for "entered" (the line runs from left to right)
        track = {k: p for k, f in enumerate(truth["people"]) for p in f if p[0] == crossing["person"]}
        before, after = track[crossing["frame"] - 3], track[crossing["frame"] + 3]
        down = (after[2] + after[4]) > (before[2] + before[4])
        assert down == (crossing["direction"] == "entered")


def test_committed_clips_are_small() -> None:
    assert sum(f.stat().st_size for f in CLIPS.glob("*rendered*")) < 2 * 2**20
