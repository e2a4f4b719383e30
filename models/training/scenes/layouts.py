"""What rooms look like and who is where in them: meeting, class room, office, corridor, lobby, door and more."""

from __future__ import annotations

import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.random import Generator

from .camera import look, look_at
from .materials import grey, part
from .picture import Backdrops, Scene
from .poses import random_walking, sitting, standing
from .rooms import Room, fisheye, lens, table_camera


def _people_share(rng: Generator) -> float:
    return 0.0 if rng.random() < 0.17 else float(rng.choice([rng.uniform(0.1, 0.4), rng.uniform(0.4, 1.0)]))


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
        camera = table_camera(
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
    if backdrops.catalogue is not None and rng.random() < 0.25:  # a car, a horse, a camping tent
        r, a = rng.uniform(4, 7), view + rng.normal(0, math.radians(fov) * 0.4)
        x, z = float(centre + math.sin(a) * r), float(centre + math.cos(a) * r)
        if room.free(x, z, 2.0):
            room.stock.thing(backdrops.catalogue.large, (x, 0.0, z), float(rng.uniform(0, 6.28)))
    upper, lower = hdr[:200].mean((0, 1)), hdr[300:].mean((0, 1))
    clipped = np.minimum(hdr, 30).mean(2)
    row, col = np.unravel_index(int(np.argmax(cv2.GaussianBlur(clipped, (0, 0), 12)[:256])), (256, hdr.shape[1]))
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
        camera = table_camera(room, wh, centre, centre, cam_y)
    scene = room.scene(camera, "photographed")
    scene.panorama, scene.panorama_yaw = which, yaw0
    return scene


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
