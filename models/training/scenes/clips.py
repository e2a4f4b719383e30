"""Short clips with exact truth: who is where in every frame, who is present, who crossed the line when and which way.

The truth is a JSON document::

    {"fps": 12.0, "frames": 360, "width": 416, "height": 256, "seed": 5, "kind": "door",
     "max_present": 4, "present": [[0, 11, 0], [12, 30, 1], ...],          # runs of frames, both ends included
     "lines": [{"name": "door", "start": [0.0, 0.5], "end": [1.0, 0.5]}],  # relative, as in a scene file
     "crossings": [{"frame": 40, "t": 3.33, "line": "door", "direction": "entered", "person": 2}, ...],
     "people": [[[2, 10.0, 20.0, 60.0, 90.0, 0.93], ...], ...]}            # per frame: person, box, visible share

Walking across a line from its left to its right hand side, seen from its start, is ``entered``.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .camera import look, look_at
from .materials import grey, part
from .people import Cast, walk_phase
from .picture import Backdrops, Person, Placement, Scene, render
from .poses import Pose, sitting, standing, walking
from .rooms import Room, fisheye, lens

U8 = NDArray[np.uint8]

PRESENT_SHARE, PRESENT_PIXELS = 0.25, 60.0
"""Who shows at least this share of the body inside the frame, unhidden, and this many pixels is present."""


@dataclass(frozen=True)
class Walk:
    """One person on a path: ``points`` ``[K, 2]`` (x, z) walked from ``start`` (seconds) at ``speed`` (m/s).

    ``rests`` maps a point's number to the seconds spent there; ``seats`` maps a point's number to a seat
    (facing, height) on which the person sits during that rest.
    """

    character: int
    points: tuple[tuple[float, float], ...]
    start: float
    speed: float
    rests: dict[int, float]
    seats: dict[int, tuple[float, float]]
    identity: int
    seed: int

    def end(self) -> float:
        return self._times()[-1][1]

    def _times(self) -> list[tuple[float, float]]:
        """Arrival and departure at each point."""
        t, times = self.start, []
        for k, point in enumerate(self.points):
            if k:
                a = self.points[k - 1]
                t += math.hypot(point[0] - a[0], point[1] - a[1]) / self.speed
            arrival = t
            t += self.rests.get(k, 0.0)
            times.append((arrival, t))
        return times

    def at(self, t: float, height: float) -> Placement | None:
        """Where and how the person is at second ``t``, or None before and after the walk."""
        times = self._times()
        if t < times[0][0] or t >= times[-1][1]:
            return None
        walked = 0.0
        for k, (arrival, departure) in enumerate(times):
            x, z = self.points[k]
            if arrival <= t < departure:
                return self._resting(k, t - arrival, departure - t, height)
            if k + 1 < len(times) and departure <= t < times[k + 1][0]:
                nx, nz = self.points[k + 1]
                share = (t - departure) / max(times[k + 1][0] - departure, 1e-6)
                length = math.hypot(nx - x, nz - z)
                yaw = self._heading(k, share)
                pose = walking(
                    walk_phase(walked + share * length, height) + self.seed,
                    min(1.15, 0.55 + 0.45 * self.speed),
                    self.seed % 3 == 0,
                )
                return Placement(self.character, pose, x + share * (nx - x), z + share * (nz - z), yaw, self.identity)
            if k + 1 < len(times):
                walked += math.hypot(self.points[k + 1][0] - x, self.points[k + 1][1] - z)
        return None

    def _heading(self, k: int, share: float) -> float:
        """Direction of the step, turned smoothly into the next one."""

        def direction(i: int) -> float:
            (x, z), (nx, nz) = self.points[i], self.points[i + 1]
            return math.atan2(nx - x, nz - z)

        here = direction(k)
        if share > 0.7 and k + 2 < len(self.points) and k + 1 not in self.rests:
            turn = (direction(k + 1) - here + math.pi) % (2 * math.pi) - math.pi
            return here + turn * (share - 0.7) / 0.6
        if share < 0.3 and k > 0 and k not in self.rests:
            turn = (here - direction(k - 1) + math.pi) % (2 * math.pi) - math.pi
            return here - turn * (0.3 - share) / 0.6
        return here

    def _resting(self, k: int, since: float, left: float, height: float) -> Placement:
        rng = np.random.default_rng([self.seed, 3, k])
        x, z = self.points[k]
        stand = standing(rng)
        if k not in self.seats:
            yaw = self._heading(max(k - 1, 0), 0.5) if k else 0.0
            return Placement(self.character, stand, x, z, yaw, self.identity)
        facing, seat = self.seats[k]
        poses = [
            sitting(np.random.default_rng([self.seed, 5, k, n]), seat) for n in (int(since / 4), int(since / 4) + 1)
        ]
        share = min(1.0, max(0.0, (since % 4.0) - 3.2) / 0.8)
        pose = blend(poses[0], poses[1], share)
        upright = min(since, left) / 0.7
        if upright < 1.0:
            pose = blend(replace(stand, seat=0.53 * height - 0.11), pose, upright)
        return Placement(self.character, pose, x, z, facing, self.identity)


def blend(a: Pose, b: Pose, share: float) -> Pose:
    """Between two poses, 0 is ``a``."""
    s = share * share * (3 - 2 * share)

    def mix(u: Any, v: Any) -> Any:
        if isinstance(u, tuple):
            return tuple(mix(p, q) for p, q in zip(u, v, strict=True))
        return u + s * (v - u)

    names = ("lean", "sway", "turn", "head_yaw", "head_pitch", "head_roll", "arms", "legs")
    values = {n: mix(getattr(a, n), getattr(b, n)) for n in names}
    seat = None if a.seat is None or b.seat is None else mix(a.seat, b.seat)
    return Pose(**values, seat=seat)


@dataclass(frozen=True)
class Clip:
    """A scene, who walks through it, and for how long. ``line_z`` is the door line on the floor, if there is one."""

    scene: Scene
    walks: tuple[Walk, ...]
    fps: float
    seconds: float
    kind: str
    seed: int
    line_z: float | None = None

    @property
    def frames(self) -> int:
        return round(self.fps * self.seconds)

    def render(
        self, cast: Cast, backdrops: Backdrops, supersample: float = 1.5
    ) -> Iterator[tuple[U8, tuple[Person, ...]]]:
        """Frame by frame: picture ``[H, W, 3]`` BGR and who can be seen in it."""
        noise = np.random.default_rng([self.seed, 17])
        heights = {w.character: cast.get(w.character).height for w in self.walks}
        for k in range(self.frames):
            placed = [w.at(k / self.fps, heights[w.character]) for w in self.walks]
            self.scene.people = [p for p in placed if p is not None]
            picture = render(self.scene, cast, backdrops, supersample)
            grain = noise.normal(0, 1.6, picture.image.shape[:2])[..., None]
            yield np.clip(picture.image + grain, 0, 255).astype(np.uint8), picture.people

    def crossings(self, cast: Cast) -> list[dict[str, Any]]:
        """When each person's place on the floor passes the line; towards the camera's lower edge is ``entered``."""
        if self.line_z is None:
            return []
        found: list[dict[str, Any]] = []
        step = 0.005
        for walk in self.walks:
            before: float | None = None
            for n in range(int(self.seconds / step)):
                where = walk.at(n * step, cast.get(walk.character).height)
                if where is None:
                    before = None
                    continue
                side = where.z - self.line_z
                if before is not None and before * side < 0:
                    direction = "entered" if side < 0 else "left"
                    found.append(
                        {
                            "frame": round(n * step * self.fps),
                            "t": round(n * step, 3),
                            "line": "door",
                            "direction": direction,
                            "person": walk.identity,
                        }
                    )
                if side != 0:
                    before = side
        return sorted(found, key=lambda c: float(c["t"]))


def _cast_of(rng: Generator, count: int, size: int) -> list[int]:
    return [int(k) for k in rng.choice(size, count, replace=False)]


def door_clip(seed: int, backdrops: Backdrops, cast: Cast, seconds: float = 30.0, fps: float = 12.0,
              people: int = 14, wh: tuple[int, int] = (416, 256), wide: bool = False) -> Clip:  # fmt: skip
    """A door seen straight from above: people come and go, side by side and against each other; some turn back."""
    rng = np.random.default_rng([seed, 101])
    size = (float(rng.uniform(4.5, 6)), float(rng.uniform(3.2, 3.9)), 7.0)
    room = Room(rng, size, backdrops, cast.size)
    w, h, d = size
    cx, cz = w / 2, d / 2
    mat = room.builder.material(part(grey(rng, 0.05, 0.4, 0.3)))
    room.decals.insert(0, (0, cx - 1.0, cz - 0.06, cx + 1.0, cz + 0.06, mat))
    at = np.array([cx, h - 0.05, cz], np.float32)
    camera = (
        fisheye(rng, wh, (cx, h - 0.05, cz))
        if wide
        else lens(rng, wh, float(rng.uniform(94, 106)), at, look(0.0, math.pi / 2))
    )
    if wide:
        camera = replace(camera, rotation=look(0.0, math.pi / 2))
    scene = room.scene(camera, "door-clip")
    scene.exposure, scene.contrast = 0.45, 1.0
    walks: list[Walk] = []
    for k, who in enumerate(_cast_of(rng, people, cast.size)):
        start = float(rng.uniform(0.3, max(seconds - 6.0, 0.5))) if k else 0.5
        up = bool(rng.random() < 0.5)
        x = cx + float(rng.uniform(-0.75, 0.75))
        for _ in range(60):  # nobody walks through anybody
            if all(abs(start - o.start) > 1.1 or abs(x - o.points[1][0]) > 0.62 for o in walks):
                break
            start, x = float(rng.uniform(0.3, max(seconds - 6.0, 0.5))), cx + float(rng.uniform(-0.9, 0.9))
        a, b = (0.3, d - 0.3) if up else (d - 0.3, 0.3)
        side = x + float(rng.normal(0, 0.15))
        points: tuple[tuple[float, float], ...] = ((side, a), (x, cz), (x + float(rng.normal(0, 0.15)), b))
        rests: dict[int, float] = {}
        if k % 6 == 5:  # comes close to the line, hesitates, goes back
            stop = cz + (-0.55 if up else 0.55)
            points, rests = ((side, a), (x, stop), (side, a)), {1: float(rng.uniform(0.4, 1.5))}
        walks.append(Walk(who, points, start, float(rng.uniform(0.9, 1.5)), rests, {}, k, seed * 100 + k))
    return Clip(scene, tuple(walks), fps, seconds, "door", seed, cz)


def room_clip(seed: int, backdrops: Backdrops, cast: Cast, seconds: float = 30.0, fps: float = 8.0,
              people: int = 5, wh: tuple[int, int] = (416, 256)) -> Clip:  # fmt: skip
    """A meeting room from a high corner: people come in below the camera, sit down, some leave again."""
    rng = np.random.default_rng([seed, 103])
    size = (5.6, 2.8, 6.4)
    room = Room(rng, size, backdrops, cast.size)
    w, h, d = size
    cx, cz, tw, td = w / 2 + 0.2, d / 2 + 0.5, 1.2, 2.4
    room.stock.table(cx, cz, 0.0, tw, td)
    room.stock.chair_kind = int(rng.integers(3))
    seat = room.stock.seat
    for k in range(3):
        z = cz - td / 2 + (k + 0.5) * td / 3
        room.spots += [(cx - tw / 2 - 0.28, z, math.pi / 2, seat), (cx + tw / 2 + 0.28, z, -math.pi / 2, seat)]
    room.spots.append((cx, cz + td / 2 + 0.28, math.pi, seat))
    for x, z, yaw, _ in room.spots:
        room.stock.chair(x, z, yaw)
    room.stock.things(cx, cz, 0.74, 0.0, tw, td, 5)
    room.stock.clutter(w - 0.5, d - 0.4, math.pi)
    at = np.array([0.15, h - 0.2, 1.2], np.float32)
    camera = lens(rng, wh, 88.0, at, look_at(at, np.array([cx + 0.2, 0.6, cz + 0.1], np.float32)))
    scene = room.scene(camera, "room-clip")
    scene.exposure, scene.contrast = 0.46, 1.0
    walks: list[Walk] = []
    order = rng.permutation(len(room.spots))
    for k, who in enumerate(_cast_of(rng, min(people, len(room.spots)), cast.size)):
        x, z, yaw, height = room.spots[int(order[k])]
        outside, inner = (1.2, 0.25), (w / 2 + (1.75 if x > cx else -1.45), 1.0)
        beside = (cx + (1.25 if x > cx else -1.25), z) if abs(x - cx) > 0.2 else (cx + 1.2, z + 0.1)
        start = 0.8 + k * seconds * 0.11
        points = [outside, inner, beside, (x, z)]
        rests, seats = {3: 1e3}, {3: (yaw, height)}
        if k % 2 == 0 and k < people - 1:
            rests = {3: float(seconds * rng.uniform(0.28, 0.4))}
            points += [beside, inner, outside]
        walks.append(Walk(who, tuple(points), start, float(rng.uniform(1.0, 1.35)), rests, seats, k, seed * 100 + k))
    return Clip(scene, tuple(walks), fps, seconds, "room", seed)


def present(people: tuple[Person, ...]) -> int:
    """How many are there by the rule of ``PRESENT_SHARE`` and ``PRESENT_PIXELS``."""
    return sum(p.visible * p.in_frame >= PRESENT_SHARE and p.pixels >= PRESENT_PIXELS for p in people)


def runs(counts: list[int]) -> list[list[int]]:
    """``[first, last, count]`` of stretches of equal counts, both ends included."""
    out: list[list[int]] = []
    for k, n in enumerate(counts):
        if out and out[-1][2] == n:
            out[-1][1] = k
        else:
            out.append([k, k, n])
    return out


def truth_of(clip: Clip, people: list[tuple[Person, ...]], cast: Cast) -> dict[str, Any]:
    """The truth document of a rendered clip (see the module)."""
    counts = [present(p) for p in people]
    lines = [{"name": "door", "start": [0.0, 0.5], "end": [1.0, 0.5]}] if clip.line_z is not None else []
    return {
        "fps": clip.fps, "frames": clip.frames, "width": clip.scene.camera.width, "height": clip.scene.camera.height,
        "seed": clip.seed, "kind": clip.kind, "visits": len(clip.walks),
        "max_present": max(counts), "present": runs(counts),
        "note": "rendered: exact truth; a person counts as present with a quarter of the body in view",
        "lines": lines, "crossings": clip.crossings(cast),
        "people": [
            [[p.identity, *(round(v, 1) for v in p.box), round(p.visible, 2)] for p in frame] for frame in people
        ],
    }  # fmt: skip


def write_clip(path: Path, clip: Clip, cast: Cast, backdrops: Backdrops, supersample: float = 1.5) -> dict[str, Any]:
    """Render to ``path`` (.mp4, MPEG-4) with the truth beside it (.json); returns the truth."""
    camera = clip.scene.camera
    temporary = path.with_name(f".{path.name}.part.mp4")
    video = cv2.VideoWriter(str(temporary), cv2.VideoWriter.fourcc(*"mp4v"), clip.fps, (camera.width, camera.height))
    if not video.isOpened():
        raise RuntimeError(f"{path}: this OpenCV cannot write MPEG-4 video")
    people: list[tuple[Person, ...]] = []
    for frame, who in clip.render(cast, backdrops, supersample):
        video.write(frame)
        people.append(who)
    video.release()
    truth = truth_of(clip, people, cast)
    text = json.dumps(truth, separators=(",", ":"))
    part_file = path.with_suffix(".json.part")
    part_file.write_text(text + "\n", encoding="utf-8")
    os.replace(part_file, path.with_suffix(".json"))
    os.replace(temporary, path)
    return truth
