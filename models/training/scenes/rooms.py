"""A room being furnished, lit, filled with people, and the cameras that look into it."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .camera import FISHEYE, PANORAMA, PERSPECTIVE, Camera, look, look_at
from .furniture import Stock
from .materials import CHECKS, PHOTO, PLAIN, STRIPES_Y, bright, floor_material, grey, part, wall_material
from .mesh import Builder
from .picture import Backdrops, Placement, Scene
from .poses import Pose, random_walking, sitting, standing

F32 = NDArray[np.float32]

FIGURES = 0.15
"""Share of the people who are figures of the catalogue, where there is one."""


class Room:
    """A room being furnished. ``spots`` are chairs: (x, z, yaw, seat height)."""

    def __init__(self, rng: Generator, size: tuple[float, float, float], backdrops: Backdrops, cast_size: int) -> None:
        self.rng, self.size, self.backdrops, self.cast_size = rng, size, backdrops, cast_size
        self.builder = Builder()
        m = self.builder.material
        wall = wall_material(rng)
        self.walls = [
            m(floor_material(rng)),
            m(part(grey(rng, 0.7, 0.95, 0.03))),
            *(m(wall if rng.random() < 0.8 else wall_material(rng)) for _ in range(4)),
        ]
        self.stock = Stock(rng, self.builder, len(backdrops.photos), backdrops.catalogue)
        self.decals: list[tuple[float, float, float, float, float, float]] = []
        self.spots: list[tuple[float, float, float, float]] = []
        self.people: list[Placement] = []
        self.lights, self.ambient = self._light()
        self._decorate()

    def _light(self) -> tuple[F32, F32]:
        rng, (w, h, d) = self.rng, self.size
        warm = rng.uniform(-0.2, 0.25)
        colour = np.array([1 + warm, 1.0, 1 - warm])
        power = float(np.exp(rng.uniform(np.log(0.5), np.log(6.0))))
        lamp = self.builder.material(part((1, 1, 1), emission=float(rng.uniform(1.5, 5))))
        lights = []
        nx, nz = max(1, round(w / 3.2)), max(1, round(d / 3.2))
        long = rng.random() < 0.5
        for i in range(nx):
            for j in range(nz):
                x, z = (i + 0.5) * w / nx, (j + 0.5) * d / nz
                u, v = (0.08, 0.6) if long else (0.3, 0.3)
                if self.rng.random() < 0.85:
                    self.decals.append((1, x - u, z - v, x + u, z + v, lamp))
                lights.append([x, h - 0.1, z, *(colour * power * rng.uniform(0.6, 1.4)), 1.0])
        order = rng.permutation(len(lights))[:3]
        chosen = [lights[k] for k in order]
        up = np.array([0.5, 0.5, 0.52]) * rng.uniform(0.15, 0.9) * colour
        ambient = np.stack([up, up * rng.uniform(0.25, 0.8)])
        return np.array(chosen, np.float32), ambient.astype(np.float32)

    def _wall_size(self, side: int) -> tuple[float, float]:
        w, h, d = self.size
        return (d, h) if side in (2, 3) else (w, h)

    def _decorate(self) -> None:
        rng, m = self.rng, self.builder.material
        for side in (2, 3, 4, 5):
            length, h = self._wall_size(side)
            roll = rng.random()
            if roll < 0.3:  # windows
                glow = float(rng.uniform(0.8, 6.0))
                glass = m(
                    part((0.85, 0.93, 1.0), emission=glow)
                    if rng.random() < 0.5
                    else part(
                        (glow, glow, glow),
                        pattern=PHOTO,
                        photo=int(rng.integers(len(self.backdrops.photos))),
                        emission=0.8,
                    )
                )
                frame = m(part(grey(rng, 0.1, 0.9)))
                n = max(1, int(length / rng.uniform(1.3, 2.6)))
                low, high = float(rng.uniform(0.0, 1.0)), h - float(rng.uniform(0.1, 0.6))
                for k in range(n):
                    a, b = (k + 0.12) * length / n, (k + 0.88) * length / n
                    self.decals += [
                        (side, a - 0.06, low - 0.06, b + 0.06, high + 0.06, frame),
                        (side, a, low, b, high, glass),
                    ]
                centre = {2: (0.4, self.size[2] / 2), 3: (self.size[0] - 0.4, self.size[2] / 2),
                          4: (self.size[0] / 2, 0.4), 5: (self.size[0] / 2, self.size[2] - 0.4)}[side]  # fmt: skip
                if len(self.lights) < 5:
                    daylight = np.array(
                        [[centre[0], 1.7, centre[1], *(np.array([0.9, 1.0, 1.15]) * rng.uniform(1.0, 12.0)), 2.5]],
                        np.float32,
                    )
                    self.lights = np.concatenate([self.lights, daylight])
            elif roll < 0.55:  # a board or screen
                w2 = float(rng.uniform(0.8, 1.9))
                c = length * float(rng.uniform(0.35, 0.65))
                board = (
                    part(grey(rng, 0.8, 0.98))
                    if rng.random() < 0.5
                    else (
                        part((0.05, 0.12, 0.08))
                        if rng.random() < 0.4
                        else part(
                            (1, 1, 1),
                            pattern=PHOTO,
                            photo=int(rng.integers(len(self.backdrops.photos))),
                            emission=float(rng.uniform(0, 1.2)),
                        )
                    )
                )
                low = float(rng.uniform(0.85, 1.2))
                self.decals.append((side, c - w2, low, c + w2, min(low + 1.25, h - 0.2), m(board)))
            for _ in range(int(rng.integers(0, 4))):  # pictures, notices, switches
                c, y, s = rng.uniform(0.3, max(length - 0.3, 0.4)), rng.uniform(1.1, 1.9), rng.uniform(0.1, 0.45)
                kind = int(rng.choice([PHOTO, PLAIN, STRIPES_Y, CHECKS]))
                poster = part(
                    (1, 1, 1) if kind == PHOTO else bright(rng),
                    bright(rng),
                    kind,
                    float(rng.uniform(4, 16)),
                    photo=int(rng.integers(len(self.backdrops.photos))),
                )
                self.decals.append((side, c - s, y - s * 0.7, c + s, min(y + s * 0.7, h), m(poster)))
            if rng.random() < 0.45:  # a door
                c = float(rng.uniform(0.7, max(length - 0.7, 0.8)))
                self.decals.append((side, c - 0.5, 0, c + 0.5, 2.1, m(part(grey(rng, 0.15, 0.9, 0.2)))))
                self.decals.append((side, c + 0.36, 1.0, c + 0.44, 1.06, m(part((0.1, 0.1, 0.1)))))

    # people ------------------------------------------------------------------------------------------------

    def add(self, pose: Pose, x: float, z: float, yaw: float) -> None:
        who = int(self.rng.integers(self.cast_size))
        catalogue = self.backdrops.catalogue
        if catalogue is not None and self.rng.random() < FIGURES:
            who = -1 - int(self.rng.integers(1000))
        self.people.append(Placement(who, pose, float(x), float(z), float(yaw), len(self.people)))

    def free(self, x: float, z: float, distance: float = 0.5) -> bool:
        return all((p.x - x) ** 2 + (p.z - z) ** 2 > distance**2 for p in self.people)

    def seat_people(self, share: float) -> None:
        for x, z, yaw, seat in self.spots:
            if self.rng.random() < share and self.free(x, z, 0.35):
                yaw += float(self.rng.normal(0, 0.2)) if self.rng.random() < 0.8 else float(self.rng.normal(0, 0.8))
                self.add(sitting(self.rng, seat), x, z, yaw)

    def scatter(self, count: int, margin: float = 0.4, walk: float = 0.5) -> None:
        """People on their feet where nobody is yet; some in pairs that face each other."""
        w, _, d = self.size
        for _ in range(count):
            x, z = self.rng.uniform(margin, w - margin), self.rng.uniform(margin, d - margin)
            if not self.free(x, z, 0.45):
                continue
            yaw = float(self.rng.uniform(0, 2 * math.pi))
            if self.rng.random() < walk:
                self.add(random_walking(self.rng), x, z, yaw)
                continue
            self.add(standing(self.rng), x, z, yaw)
            if self.rng.random() < 0.4:
                gap = self.rng.uniform(0.5, 1.0)
                x2, z2 = x + math.sin(yaw) * gap, z + math.cos(yaw) * gap
                if 0.2 < x2 < w - 0.2 and 0.2 < z2 < d - 0.2 and self.free(x2, z2, 0.4):
                    self.add(standing(self.rng), x2, z2, yaw + math.pi + float(self.rng.normal(0, 0.4)))

    def clutter(self, count: int, edge: bool = True) -> None:
        w, _, d = self.size
        for _ in range(count):
            if edge:
                side = int(self.rng.integers(4))
                x, z, yaw = [
                    (0.35, self.rng.uniform(0.4, d - 0.4), math.pi / 2),
                    (w - 0.35, self.rng.uniform(0.4, d - 0.4), -math.pi / 2),
                    (self.rng.uniform(0.4, w - 0.4), 0.35, 0.0),
                    (self.rng.uniform(0.4, w - 0.4), d - 0.35, math.pi),
                ][side]
            else:
                x, z, yaw = self.rng.uniform(0.4, w - 0.4), self.rng.uniform(0.4, d - 0.4), self.rng.uniform(0, 6.3)
            if self.free(x, z, 0.6):
                self.stock.clutter(float(x), float(z), float(yaw))

    # cameras -----------------------------------------------------------------------------------------------

    def scene(self, camera: Camera, kind: str) -> Scene:
        rng = self.rng
        return Scene(
            self.size,
            self.builder,
            self.walls,
            self.decals,
            self.lights,
            self.ambient,
            camera,
            self.people,
            exposure=float(np.clip(rng.normal(0.43, 0.1), 0.15, 0.65)),
            contrast=float(rng.uniform(0.85, 1.6)),
            kind=kind,
        )

    def corner_camera(self, wh: tuple[int, int], low: float = 2.0) -> Camera:
        """High in a corner or on a wall, looking at somewhere on the floor."""
        rng, (w, h, d) = self.rng, self.size
        x = float(rng.choice([0.15, w - 0.15])) if rng.random() < 0.7 else float(rng.uniform(0.2, w - 0.2))
        z = float(rng.choice([0.15, d - 0.15]))
        y = float(rng.uniform(min(low, h - 0.3), h - 0.15))
        target = np.array([rng.uniform(0.25, 0.75) * w, rng.uniform(0.3, 1.1), rng.uniform(0.25, 0.75) * d], np.float32)
        fov = rng.uniform(60, 112)
        return lens(
            rng,
            wh,
            fov,
            np.array([x, y, z], np.float32),
            look_at(np.array([x, y, z], np.float32), target, float(rng.normal(0, 0.03))),
        )


def lens(rng: Generator, wh: tuple[int, int], fov: float, position: F32, rotation: F32) -> Camera:
    """A perspective camera with this horizontal field of view (degrees) and, when wide, some barrel distortion."""
    k1 = -float(rng.uniform(0, 0.18)) * max(0.0, (fov - 60) / 60)
    half = math.tan(math.radians(fov) / 2)
    bend = 1 + k1 * half * half
    if 1 + 3 * k1 * half * half * 1.4 < 0.3:
        k1, bend = 0.0, 1.0
    return Camera(PERSPECTIVE, wh[0], wh[1], wh[0] / 2 / (half * bend), k1, np.asarray(position, np.float32), rotation)


def fisheye(rng: Generator, wh: tuple[int, int], at: tuple[float, float, float]) -> Camera:
    """On the ceiling, straight down, 180 degrees."""
    span = min(wh) if rng.random() < 0.4 else max(wh)
    return Camera(
        FISHEYE,
        wh[0],
        wh[1],
        span / math.pi * float(rng.uniform(0.95, 1.25)),
        0.0,
        np.array(at, np.float32),
        look(float(rng.uniform(0, 6.28)), math.pi / 2 + float(rng.normal(0, 0.04))),
    )


def table_camera(room: Room, wh: tuple[int, int], x: float, z: float, y: float) -> Camera:
    """The unrolled picture of a 360-degree table camera, or a piece of it."""
    rng = room.rng
    span = math.radians(rng.uniform(100, 130))
    return Camera(
        PANORAMA,
        wh[0],
        wh[1],
        wh[0] / span,
        0.0,
        np.array([x, y, z], np.float32),
        look(float(rng.uniform(0, 2 * math.pi)), float(rng.normal(0.0, 0.04)), float(rng.normal(0, 0.02))),
    )
