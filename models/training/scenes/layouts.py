"""What rooms look like and who is where in them: meeting, class room, office, corridor, lobby, door and more."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .camera import FISHEYE, PANORAMA, PERSPECTIVE, Camera, look, look_at
from .furniture import Builder, Stock, bright, floor_material, grey, wall_material
from .people import CHECKS, PHOTO, PLAIN, STRIPES_Y, part
from .picture import Backdrops, Placement, Scene
from .poses import Pose, random_walking, sitting, standing

F32 = NDArray[np.float32]


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
        self.stock = Stock(rng, self.builder, len(backdrops.photos))
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


def _people_share(rng: Generator) -> float:
    return 0.0 if rng.random() < 0.17 else float(rng.choice([rng.uniform(0.1, 0.4), rng.uniform(0.4, 1.0)]))


def _table_camera(room: Room, wh: tuple[int, int], x: float, z: float, y: float) -> Camera:
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


def meeting(rng: Generator, wh: tuple[int, int], backdrops: Backdrops, cast: int, view: str = "") -> Scene:
    """A table with chairs around it; seen from the table, a wall, a corner or the ceiling."""
    size = (float(rng.uniform(3.2, 7.5)), float(rng.uniform(2.4, 3.2)), float(rng.uniform(3.5, 9)))
    room = Room(rng, size, backdrops, cast)
    w, h, d = size
    cx, cz = w / 2 + float(rng.normal(0, 0.2)), d / 2 + float(rng.normal(0, 0.2))
    tw, td = float(rng.uniform(0.9, min(1.8, w - 2.0))), float(rng.uniform(1.2, max(1.3, min(4.5, d - 2.2))))
    is_round = rng.random() < 0.2
    if is_round:
        td = tw = float(rng.uniform(1.0, 1.6))
    top = float(rng.uniform(0.7, 0.78))
    room.stock.table(cx, cz, 0.0, tw, td, top, is_round)
    seat, reach = room.stock.seat, float(rng.uniform(0.05, 0.35))
    n = max(1, int(td / rng.uniform(0.6, 0.85)))
    for k in range(n):
        z = cz - td / 2 + (k + 0.5) * td / n
        room.spots += [(cx - tw / 2 - reach, z, math.pi / 2, seat), (cx + tw / 2 + reach, z, -math.pi / 2, seat)]
    for s in (-1, 1):
        if rng.random() < 0.6:
            room.spots.append((cx, cz + s * (td / 2 + reach), 0.0 if s < 0 else math.pi, seat))
    room.spots = [
        (x + float(rng.normal(0, 0.05)), z + float(rng.normal(0, 0.05)), yaw, s) for x, z, yaw, s in room.spots
    ]
    for x, z, yaw, _ in room.spots:
        if rng.random() < 0.93:
            room.stock.chair(x, z, yaw + float(rng.normal(0, 0.25)))
    room.stock.things(cx, cz, top, 0.0, tw, td, int(rng.integers(0, 12)))
    share = _people_share(rng)
    room.seat_people(share)
    if share > 0 and rng.random() < 0.4:
        room.scatter(int(rng.integers(1, 4)), walk=0.35)
    room.clutter(int(rng.integers(0, 5)))
    view = view or str(rng.choice(["table", "corner", "wall", "fisheye", "end"], p=[0.42, 0.25, 0.1, 0.08, 0.15]))
    if view == "table":
        camera = _table_camera(
            room,
            wh,
            cx + float(rng.normal(0, 0.08)),
            cz + float(rng.uniform(-0.35, 0.35) * td),
            top + float(rng.uniform(0.12, 0.5)),
        )
    elif view == "fisheye":
        camera = fisheye(rng, wh, (cx + float(rng.normal(0, 0.5)), h - 0.05, cz + float(rng.normal(0, 0.5))))
    elif view == "end":
        y, z = float(rng.uniform(0.95, 1.6)), 0.12
        camera = lens(
            rng,
            wh,
            float(rng.uniform(60, 105)),
            np.array([cx + rng.normal(0, 0.3), y, z]),
            look(float(rng.normal(0, 0.15)), float(rng.uniform(-0.05, 0.2))),
        )
    else:
        camera = room.corner_camera(wh, 1.8)
    return room.scene(camera, f"meeting-{view}")


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


def classroom(rng: Generator, wh: tuple[int, int], backdrops: Backdrops, cast: int, view: str = "") -> Scene:
    """Rows of desks that look at the front (z = D)."""
    size = (float(rng.uniform(5, 11)), float(rng.uniform(2.6, 3.6)), float(rng.uniform(6, 13)))
    room = Room(rng, size, backdrops, cast)
    w, h, d = size
    rows, pitch = int(rng.integers(2, 8)), float(rng.uniform(1.05, 1.6))
    desk_w = float(rng.choice([0.7, 1.3, 1.8]))
    columns = max(1, int((w - 1.0) / (desk_w + rng.uniform(0.15, 0.8))))
    desks = rng.random() < 0.8
    for r in range(rows):
        z = d - 2.2 - r * pitch
        if z < 0.8:
            break
        for c in range(columns):
            x = (c + 0.5) * w / columns
            if desks:
                room.stock.table(x, z, 0.0, desk_w, 0.5)
                room.stock.things(x, z, 0.74, 0.0, desk_w, 0.5, int(rng.poisson(1.0)))
            n = max(1, round(desk_w / 0.65))
            for k in range(n):
                sx = x - desk_w / 2 + (k + 0.5) * desk_w / n
                room.spots.append((sx, z - 0.45, 0.0, room.stock.seat))
                room.stock.chair(sx, z - 0.45, float(rng.normal(0, 0.12)))
    share = _people_share(rng)
    room.seat_people(share)
    while len(room.people) > 34:
        room.people.pop(int(rng.integers(len(room.people))))
    if share > 0 and rng.random() < 0.6:
        room.add(
            standing(rng),
            float(rng.uniform(1, w - 1)),
            d - float(rng.uniform(0.6, 1.4)),
            math.pi + float(rng.normal(0, 0.6)),
        )
    room.clutter(int(rng.integers(0, 5)))
    view = view or str(rng.choice(["front", "corner", "back", "fisheye"], p=[0.42, 0.3, 0.18, 0.1]))
    if view == "front":
        at = np.array([rng.uniform(0.3, 0.7) * w, rng.uniform(1.2, h - 0.2), d - rng.uniform(0.1, 0.6)])
        camera = lens(
            rng,
            wh,
            float(rng.uniform(50, 95)),
            at,
            look_at(at, np.array([rng.uniform(0.3, 0.7) * w, 0.8, d * rng.uniform(0.2, 0.6)])),
        )
    elif view == "back":
        at = np.array([rng.uniform(0.2, 0.8) * w, rng.uniform(1.8, h - 0.2), 0.15])
        camera = lens(rng, wh, float(rng.uniform(60, 100)), at, look_at(at, np.array([w / 2, 0.9, d * 0.7])))
    elif view == "fisheye":
        camera = fisheye(rng, wh, (w / 2, h - 0.05, d / 2))
    else:
        camera = room.corner_camera(wh)
    return room.scene(camera, f"classroom-{view}")


def office(rng: Generator, wh: tuple[int, int], backdrops: Backdrops, cast: int) -> Scene:
    """Desks with screens in blocks, people at some, others passing."""
    size = (float(rng.uniform(5, 12)), float(rng.uniform(2.5, 3.4)), float(rng.uniform(5, 12)))
    room = Room(rng, size, backdrops, cast)
    w, h, d = size
    nx, nz = max(1, int(w / rng.uniform(2.4, 3.6))), max(1, int(d / rng.uniform(2.2, 3.6)))
    for i in range(nx):
        for j in range(nz):
            if rng.random() < 0.15:
                continue
            x, z = (i + 0.5) * w / nx, (j + 0.5) * d / nz
            for s in (-1, 1):
                room.stock.table(x + s * 0.4, z, 0.0, 0.75, 1.5)
                room.stock.things(x + s * 0.4, z, 0.74, math.pi / 2, 1.3, 0.5, int(rng.integers(1, 5)))
                room.spots.append((x + s * 1.05, z + float(rng.normal(0, 0.1)), -s * math.pi / 2, room.stock.seat))
                room.stock.chair(
                    x + s * float(rng.uniform(0.95, 1.2)), z, -s * math.pi / 2 + float(rng.normal(0, 0.5)), 1
                )
    share = _people_share(rng)
    room.seat_people(share * 0.8)
    if share > 0:
        room.scatter(int(rng.integers(0, 5)))
    room.clutter(int(rng.integers(1, 7)))
    if rng.random() < 0.3:
        room.stock.column(w * float(rng.uniform(0.3, 0.7)), d * float(rng.uniform(0.3, 0.7)), h)
    if rng.random() < 0.15:
        return room.scene(fisheye(rng, wh, (w / 2, h - 0.05, d / 2)), "office-fisheye")
    return room.scene(room.corner_camera(wh), "office-corner")


def corridor(rng: Generator, wh: tuple[int, int], backdrops: Backdrops, cast: int) -> Scene:
    """Long and narrow; people come and go."""
    size = (float(rng.uniform(1.8, 4.5)), float(rng.uniform(2.3, 3.3)), float(rng.uniform(7, 20)))
    room = Room(rng, size, backdrops, cast)
    w, h, d = size
    for _ in range(0 if rng.random() < 0.2 else int(rng.integers(1, 9))):
        x, z = rng.uniform(0.35, w - 0.35), rng.uniform(0.9, d - 0.5)
        if room.free(x, z, 0.5):
            along = float(rng.choice([0, math.pi])) + float(rng.normal(0, 0.25))
            room.add(random_walking(rng) if rng.random() < 0.8 else standing(rng), x, z, along)
    room.clutter(int(rng.integers(0, 4)))
    at = np.array([rng.uniform(0.25, 0.75) * w, rng.uniform(1.4, h - 0.12), 0.12])
    fov = float(rng.uniform(50, 95))
    camera = lens(
        rng,
        wh,
        fov,
        at,
        look_at(at, np.array([w / 2, rng.uniform(0.6, 1.3), rng.uniform(2.0, d * 0.6)]), float(rng.normal(0, 0.03))),
    )
    return room.scene(camera, "corridor")


def lobby(rng: Generator, wh: tuple[int, int], backdrops: Backdrops, cast: int) -> Scene:
    """A large open place with groups, some furniture and columns."""
    size = (float(rng.uniform(5, 14)), float(rng.uniform(2.7, 5.5)), float(rng.uniform(5, 14)))
    room = Room(rng, size, backdrops, cast)
    w, h, d = size
    for _ in range(int(rng.integers(0, 4))):
        x, z, yaw = rng.uniform(1, w - 1), rng.uniform(1, d - 1), rng.uniform(0, 6.28)
        room.stock.chair(x, z, yaw, 3)
        room.spots.append((float(x), float(z), float(yaw), 0.42))
    share = _people_share(rng)
    if share > 0:
        room.seat_people(0.6)
        room.scatter(int(rng.integers(1, 16)))
    room.clutter(int(rng.integers(0, 5)))
    room.clutter(int(rng.integers(0, 3)), edge=False)
    if rng.random() < 0.4:
        room.stock.column(w * float(rng.uniform(0.3, 0.7)), d * float(rng.uniform(0.3, 0.7)), h)
    if rng.random() < 0.2:
        return room.scene(fisheye(rng, wh, (w / 2, min(h, 4.0) - 0.05, d / 2)), "lobby-fisheye")
    return room.scene(room.corner_camera(wh), "lobby-corner")


def door(rng: Generator, wh: tuple[int, int], backdrops: Backdrops, cast: int) -> Scene:
    """Straight down on a passage: heads and shoulders."""
    size = (float(rng.uniform(2.5, 6)), float(rng.uniform(2.4, 4.2)), float(rng.uniform(3, 7)))
    room = Room(rng, size, backdrops, cast)
    w, h, d = size
    cx, cz = w / 2 + float(rng.normal(0, 0.3)), d / 2 + float(rng.normal(0, 0.3))
    for _ in range(0 if rng.random() < 0.2 else int(rng.integers(1, 7))):
        x, z = cx + rng.uniform(-1.6, 1.6), cz + rng.uniform(-1.2, 1.2)
        if 0.25 < x < w - 0.25 and 0.25 < z < d - 0.25 and room.free(x, z, 0.42):
            yaw = float(rng.choice([0, math.pi])) + float(rng.normal(0, 0.5))
            room.add(random_walking(rng) if rng.random() < 0.75 else standing(rng), x, z, yaw)
    mat = room.builder.material(part(grey(rng, 0.02, 0.4, 0.3)))
    if rng.random() < 0.5:
        room.decals.insert(0, (0, cx - 0.9, cz - 0.6, cx + 0.9, cz + 0.6, mat))
    if rng.random() < 0.5:  # a rug, tape or threshold across
        room.decals.insert(0, (0, 0.0, cz - 0.05, w, cz + 0.05, mat))
    room.clutter(int(rng.integers(0, 4)))
    at = np.array([cx, h - 0.06, cz], np.float32)
    turn = float(rng.choice([0, math.pi / 2, math.pi, -math.pi / 2])) + float(rng.normal(0, 0.1))
    if rng.random() < 0.2:
        return room.scene(fisheye(rng, wh, (float(at[0]), float(at[1]), float(at[2]))), "door-fisheye")
    tilt = (
        math.pi / 2 - abs(float(rng.normal(0, 0.12)))
        if rng.random() < 0.7
        else math.pi / 2 - float(rng.uniform(0.1, 0.5))
    )
    return room.scene(lens(rng, wh, float(rng.uniform(65, 112)), at, look(turn, tilt)), "door")


def close(rng: Generator, wh: tuple[int, int], backdrops: Backdrops, cast: int) -> Scene:
    """Near the camera: torsos and faces that fill much of the frame."""
    size = (float(rng.uniform(3, 8)), float(rng.uniform(2.4, 3.2)), float(rng.uniform(3.5, 9)))
    room = Room(rng, size, backdrops, cast)
    w = size[0]
    y = float(rng.uniform(0.9, 1.7))
    cx = w / 2
    fov = float(rng.uniform(55, 90))
    n = int(rng.choice([1, 1, 2, 3]))
    for k in range(n):
        z = 0.15 + float(rng.uniform(0.55, 1.9))
        x = cx + float(rng.uniform(-0.9, 0.9)) * (z - 0.1) * 0.7
        if not room.free(x, z, 0.45):
            continue
        yaw = math.pi + float(rng.normal(0, 0.6)) if rng.random() < 0.8 else float(rng.uniform(0, 6.28))
        if y < 1.35:
            room.stock.chair(x, z, yaw)
            room.add(sitting(rng, room.stock.seat), x, z, yaw)
        else:
            room.add(standing(rng) if k else random_walking(rng), x, z, yaw)
    if rng.random() < 0.5:
        room.scatter(int(rng.integers(0, 4)))
    room.clutter(int(rng.integers(0, 5)))
    at = np.array([cx, y, 0.1])
    return room.scene(lens(rng, wh, fov, at, look(float(rng.normal(0, 0.25)), float(rng.normal(0.03, 0.12)))), "close")


def photographed(rng: Generator, wh: tuple[int, int], backdrops: Backdrops, cast: int) -> Scene:
    """People (and some furniture) placed, lit and shadowed in a photographed interior."""
    if not backdrops.panoramas:
        return lobby(rng, wh, backdrops, cast)
    side = 16.0
    room = Room(rng, (side, 6.0, side), backdrops, cast)
    which = int(rng.integers(len(backdrops.panoramas)))
    hdr = backdrops.panoramas[which]
    yaw0 = float(rng.uniform(0, 2 * math.pi))
    cam_y = float(rng.uniform(1.3, 2.4))
    centre = side / 2
    view = float(rng.uniform(0, 2 * math.pi))
    fov = float(rng.uniform(50, 100))
    pitch = float(rng.normal(0.12, 0.12))
    room.decals.clear()
    if rng.random() > 0.3:
        for _ in range(int(rng.integers(1, 9))):
            r, a = rng.uniform(1.3, 6.5), view + rng.normal(0, math.radians(fov) * 0.35)
            x, z = centre + math.sin(a) * r, centre + math.cos(a) * r
            if not room.free(x, z, 0.5):
                continue
            yaw = float(rng.uniform(0, 6.28))
            roll = rng.random()
            if roll < 0.35:
                room.stock.chair(x, z, yaw)
                room.add(sitting(rng, room.stock.seat), x, z, yaw)
                if rng.random() < 0.5:
                    room.stock.table(x + math.sin(yaw) * 0.55, z + math.cos(yaw) * 0.55, yaw, 1.0, 0.6)
            else:
                room.add(standing(rng) if roll < 0.65 else random_walking(rng), x, z, yaw)
    for _ in range(int(rng.integers(0, 4))):
        r, a = rng.uniform(1.5, 6), view + rng.normal(0, math.radians(fov) * 0.4)
        x, z = centre + math.sin(a) * r, centre + math.cos(a) * r
        if room.free(x, z, 0.7):
            (room.stock.clutter if rng.random() < 0.5 else room.stock.chair)(
                float(x), float(z), float(rng.uniform(0, 6.28))
            )
    upper, lower = hdr[:200].mean((0, 1)), hdr[300:].mean((0, 1))
    clipped = np.minimum(hdr, 30).mean(2)
    row, col = np.unravel_index(int(np.argmax(cv_blur(clipped)[:256])), (256, hdr.shape[1]))
    lat, lon = (0.5 - (row + 0.5) / hdr.shape[0]) * math.pi, ((col + 0.5) / hdr.shape[1] - 0.5) * 2 * math.pi - yaw0
    lamp = np.array(
        [
            centre + 5 * math.sin(lon) * math.cos(lat),
            min(1.2 + 5 * math.sin(max(lat, 0.3)), 5.8),
            centre + 5 * math.cos(lon) * math.cos(lat),
        ]
    )
    power = float(np.clip(upper.mean(), 0.05, 1.0)) * rng.uniform(3, 12)
    room.lights = np.array([[*lamp, *(upper / max(upper.mean(), 1e-4) * power), 2.0]], np.float32)
    room.ambient = np.stack([upper * 0.6, lower * 0.6]).clip(0.02, 1.0).astype(np.float32)
    at = np.array([centre, cam_y, centre], np.float32)
    camera = lens(rng, wh, fov, at, look(view, pitch, float(rng.normal(0, 0.03))))
    if rng.random() < 0.2:
        camera = _table_camera(room, wh, centre, centre, cam_y)
    scene = room.scene(camera, "photographed")
    scene.panorama, scene.panorama_yaw = which, yaw0
    return scene


def cv_blur(image: F32) -> F32:
    """A wide blur, to find the brightest direction rather than the brightest pixel."""
    import cv2

    return cv2.GaussianBlur(image, (0, 0), 12)


Layout = Callable[[Generator, tuple[int, int], Backdrops, int], Scene]
LAYOUTS: dict[str, tuple[Layout, float]] = {
    "meeting": (meeting, 0.26),
    "classroom": (classroom, 0.13),
    "office": (office, 0.11),
    "corridor": (corridor, 0.1),
    "lobby": (lobby, 0.08),
    "door": (door, 0.1),
    "close": (close, 0.07),
    "photographed": (photographed, 0.15),
}
"""Every kind of scene and its share of a training set."""


def compose(rng: Generator, wh: tuple[int, int], backdrops: Backdrops, cast: int, kind: str = "") -> Scene:
    """A random scene, of this kind or of any."""
    names = list(LAYOUTS)
    name = kind or str(rng.choice(names, p=[LAYOUTS[n][1] for n in names]))
    if name not in LAYOUTS:
        raise ValueError(f"kind: {name!r} is none of {', '.join(names)}")
    return LAYOUTS[name][0](rng, wh, backdrops, cast)
