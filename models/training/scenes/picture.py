"""From a scene to a picture with exact labels."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .camera import FISHEYE, Camera, look, project
from .catalogue import Catalogue, Figure
from .mesh import Builder
from .people import Cast, Character
from .poses import Pose
from .raster import height_map, rasterise, silhouettes, vertex_normals, visible_extents
from .shade import shade

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

KEPT = ("lab",)
"""Panoramas that training does not see, so that thresholds can be fixed on views into them."""

_SHADOW_SIZE = 448
_CELLS = 112


@dataclass(frozen=True)
class Placement:
    """Person ``character`` of the cast in a pose, standing or sitting at (x, z), facing ``yaw`` (0 is +z).

    A negative ``character`` is a figure of the catalogue.
    """

    character: int
    pose: Pose
    x: float
    z: float
    yaw: float
    identity: int


@dataclass
class Scene:
    """Everything but the people: room, furniture, light, camera, and who stands where at this moment."""

    size: tuple[float, float, float]
    builder: Builder
    walls: list[int]
    decals: list[tuple[float, float, float, float, float, float]]
    lights: F32
    ambient: F32
    camera: Camera
    people: list[Placement] = field(default_factory=list)
    panorama: int | None = None
    panorama_yaw: float = 0.0
    exposure: float = 0.42
    contrast: float = 1.0
    kind: str = ""


@dataclass(frozen=True)
class Person:
    """What is to be found in a picture: one person.

    Attributes:
        identity: the same person in all frames of a clip.
        box: visible extent, x1 y1 x2 y2 in pixels of the picture.
        head: extent of the head, hidden parts included, cut at the frame.
        visible: share of the silhouette inside the frame that is not hidden.
        in_frame: share of the body that lies inside the frame.
        pixels: visible pixels.
        floor: where the person stands, metres.
    """

    identity: int
    box: tuple[float, float, float, float]
    head: tuple[float, float, float, float]
    visible: float
    in_frame: float
    pixels: float
    floor: tuple[float, float]


@dataclass(frozen=True)
class Picture:
    """``image`` ``[H, W, 3]`` uint8 BGR and all people of whom at least a few pixels can be seen."""

    image: U8
    people: tuple[Person, ...]
    kind: str


class Backdrops:
    """The photographed interiors: linear panoramas, and the same as 8-bit pictures for walls and screens.

    Args:
        folder: of the ``.hdr`` files.
        catalogue: modelled furniture and people that rooms are furnished with beside our own.
        without: names of panoramas that are left out (training leaves out ``KEPT``).
    """

    def __init__(self, folder: Path | None, catalogue: Catalogue | None = None, without: Container[str] = ()) -> None:
        files = [f for f in sorted(folder.glob("*.hdr")) if f.stem not in without] if folder is not None else []
        self.catalogue = catalogue
        self.names = [f.stem for f in files]
        self.panoramas: list[F32] = []
        photos: list[U8] = []
        for file in files:
            hdr = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
            if hdr is None:
                raise ValueError(f"{file}: cannot be read as a picture")
            linear = np.clip(hdr[:, :, ::-1].astype(np.float32), 0, 1e4)
            linear /= max(float(np.median(linear.mean(2))), 1e-4) / 0.2
            self.panoramas.append(np.ascontiguousarray(linear))
            tone = np.clip(linear / (1 + linear) * 1.35, 0, 1) ** (1 / 2.2)
            flat = (tone[:, :, ::-1] * 255).astype(np.uint8)
            # eight views of each as pictures on walls and screens
            photos.extend(np.roll(flat, -k * 128, 1)[150:370, :320] for k in range(8))
        self.photos = np.ascontiguousarray(np.stack(photos)) if photos else np.full((1, 8, 8, 3), 128, np.uint8)


def render(scene: Scene, cast: Cast, backdrops: Backdrops, supersample: float = 1.5) -> Picture:
    """Draw a scene and measure what can be seen of everybody in it."""
    camera = scene.camera.scaled(supersample)
    cam = camera.packed()
    builder = scene.builder
    parts = list(builder.parts)
    vertices, normals, rest, triangles, part_of, owner, spans, heads = [], [], [], [], [], [], [], []
    count = 0
    for index, placed in enumerate(scene.people):
        who = _who(placed, cast, backdrops.catalogue)
        local = who.posed(placed.pose)
        c, s = np.cos(placed.yaw), np.sin(placed.yaw)
        world = local @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]], np.float32)
        world = world.astype(np.float32) + np.array([placed.x, 0, placed.z], np.float32)
        vertices.append(world)
        normals.append(vertex_normals(world, who.triangles))
        rest.append(who.rest)
        triangles.append(who.triangles + count)
        part_of.append(who.part_of + len(parts))
        owner.append(np.full(len(who.triangles), index, np.int32))
        spans.append((count, count + len(world)))
        heads.append(who.head_vertices)
        parts.extend(who.parts)
        count += len(world)
    people_triangles = sum(len(t) for t in triangles)
    for v, r, t, p in zip(builder.vertices, builder.rest, builder.triangles, builder.part_of, strict=True):
        vertices.append(v)
        rest.append(r)
        triangles.append(t + (count if people_triangles or count else 0))
        part_of.append(p)
    if builder.vertices:
        static_v, static_t = np.concatenate(builder.vertices), np.concatenate(builder.triangles)
        normals.append(vertex_normals(static_v, static_t))
        owner.append(np.full(len(static_t), -1, np.int32))
    if not vertices:
        vertices, normals, rest = ([np.zeros((1, 3), np.float32)] for _ in range(3))
        triangles, part_of, owner = [np.zeros((0, 3), np.int32)], [np.zeros(0, np.int32)], [np.zeros(0, np.int32)]
    v_all, n_all, r_all = np.concatenate(vertices), np.concatenate(normals), np.concatenate(rest)
    t_all = np.concatenate(triangles).astype(np.int32)
    p_all, o_all = np.concatenate(part_of).astype(np.int32), np.concatenate(owner)

    points = project(v_all, cam)
    depth = np.zeros((camera.height, camera.width), np.float32)
    seen = np.full((camera.height, camera.width), -1, np.int32)
    rasterise(points, t_all, depth, seen)

    width, _, deep = scene.size
    shadow_cam = Camera(
        FISHEYE,
        _SHADOW_SIZE,
        _SHADOW_SIZE,
        _SHADOW_SIZE / 3.0,
        0.0,
        scene.lights[0, :3].astype(np.float32),
        look(0, np.pi / 2),
    )
    shadow_points = project(v_all, shadow_cam.packed())
    shadow = np.zeros((_SHADOW_SIZE, _SHADOW_SIZE), np.float32)
    rasterise(shadow_points, t_all, shadow, np.full(shadow.shape, -1, np.int32))
    occlusion = cv2.GaussianBlur(
        height_map(v_all, t_all, np.array([width, deep], np.float32), _CELLS),
        (0, 0),
        0.28 / width * _CELLS,
        sigmaY=0.28 / deep * _CELLS,
    )

    out = np.zeros((camera.height, camera.width, 3), np.float32)
    on = scene.panorama is not None
    pano = np.array([1.0 if on else 0.0, scene.panorama_yaw, 0.0], np.float32)
    hdr = backdrops.panoramas[scene.panorama] if scene.panorama is not None else np.zeros((2, 2, 3), np.float32)
    shade(
        cam, depth, seen, points, t_all, v_all, n_all, r_all, p_all, np.stack(parts).astype(np.float32),
        np.array(scene.size, np.float32), np.array(scene.walls, np.int32),
        np.array(scene.decals, np.float32).reshape(-1, 6), scene.lights, scene.ambient, shadow_cam.packed(), shadow,
        np.ascontiguousarray(occlusion), hdr, pano, backdrops.photos, out,
    )  # fmt: skip
    image = _develop(out, scene, (scene.camera.width, scene.camera.height))
    people = _measure(scene, points, t_all, o_all, seen, spans, heads, supersample) if scene.people else ()
    return Picture(image, people, scene.kind)


def _who(placed: Placement, cast: Cast, catalogue: Catalogue | None) -> Character | Figure:
    """The body of somebody: negative numbers are figures of the catalogue that sit or stand as the pose says."""
    if placed.character >= 0:
        return cast.get(placed.character)
    assert catalogue is not None
    entries = catalogue.standing if placed.pose.seat is None else catalogue.sitting
    figure = catalogue.figure(entries[placed.character % len(entries)]) if entries else None
    return figure if figure is not None else cast.get(-placed.character % cast.size)


def _develop(linear: F32, scene: Scene, size: tuple[int, int]) -> U8:
    """Exposure, a film-like shoulder, gamma; then down to the size of the picture."""
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722], np.float32)
    lit = luminance[luminance > 0]
    level = float(np.mean(np.minimum(lit, np.quantile(lit[::17], 0.8)))) if lit.size else 1.0
    x = linear * (scene.exposure**2.2 / max(level, 1e-4))
    x = x * (1 + 0.12 * x) / (1 + 0.75 * x) * 1.2
    small = cv2.resize(np.clip(x, 0, 1), size, interpolation=cv2.INTER_AREA)
    tone = np.clip(small, 0, 1) ** (scene.contrast / 2.2)
    return np.ascontiguousarray((tone[:, :, ::-1] * 255 + 0.5).astype(np.uint8))


def _measure(scene, points, triangles, owner, seen, spans, heads, scale) -> tuple[Person, ...]:  # type: ignore[no-untyped-def]
    people = len(scene.people)
    count, box = visible_extents(seen, owner, people)
    mine = owner >= 0
    full = silhouettes(points, triangles[mine], owner[mine], people, np.full(seen.shape, -1, np.int32))
    height, width = seen.shape
    found = []
    for k, placed in enumerate(scene.people):
        if count[k] < 6:
            continue
        own = points[spans[k][0] : spans[k][1]]
        inside = (own[:, 3] > 0) & (own[:, 0] >= 0) & (own[:, 0] < width) & (own[:, 1] >= 0) & (own[:, 1] < height)
        head = own[heads[k] & (own[:, 3] > 0)]
        if len(head):
            low, high = head[:, :2].min(0), head[:, :2].max(0)
            corners = np.clip(np.concatenate([low, high]), 0, [width, height, width, height]) / scale
        else:
            corners = np.zeros(4)
        x0, y0, x1, y1 = box[k]
        found.append(
            Person(
                placed.identity,
                (x0 / scale, y0 / scale, (x1 + 1) / scale, (y1 + 1) / scale),
                (float(corners[0]), float(corners[1]), float(corners[2]), float(corners[3])),
                float(count[k] / max(full[k], 1)),
                float(inside.mean()),
                float(count[k] / scale**2),
                (placed.x, placed.z),
            )
        )
    return tuple(found)
