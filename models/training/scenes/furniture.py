"""Furniture from boxes and cylinders: what stands in rooms, and what is mistaken for people."""

from __future__ import annotations

import math

import numpy as np
from numpy.random import Generator

from .catalogue import Catalogue, Entry
from .materials import BLOTCHES, CHECKS, PHOTO, PLAIN, SPECKLE, STRIPES_Y, bright, fabric, grey, part, surface
from .mesh import Builder, turn

Place = tuple[float, float, float]


class Stock:
    """The furniture of one room: a few models in a few colours, as rooms are furnished.

    Args:
        photos: how many photographs there are for screens.
        catalogue: modelled furniture that is mixed in.
    """

    def __init__(self, rng: Generator, builder: Builder, photos: int, catalogue: Catalogue | None = None) -> None:
        self.rng, self.b, self.photos, self.catalogue = rng, builder, photos, catalogue
        self._materials: dict[Entry, int] = {}
        m = builder.material
        self.top, self.metal = m(surface(rng)), m(part(grey(rng, 0.05, 0.7), gloss=0.15))
        self.fabric, self.dark = m(fabric(rng)), m(part(grey(rng, 0.01, 0.08), gloss=0.1))
        self.wood, self.white = m(surface(rng)), m(part(grey(rng, 0.75, 0.95)))
        self.chair_kind = int(rng.integers(5))
        self.seat = float(rng.uniform(0.42, 0.5))
        self.chair_entry: Entry | None = None
        if catalogue is not None and catalogue.chairs and rng.random() < 0.6:
            self.chair_entry = catalogue.chairs[int(rng.integers(len(catalogue.chairs)))]

    def modelled(self, entry: Entry, at: Place, yaw: float) -> bool:
        """Set a model of the catalogue down; False where it is too fine to draw."""
        assert self.catalogue is not None
        model = self.catalogue.model(entry)
        if model is None:
            return False
        if entry not in self._materials:  # the same colours for all of a kind in a room, at times other ones
            parts = model.parts.copy()
            if self.rng.random() < 0.4:
                tint = self.rng.uniform(0.35, 1.4) * self.rng.uniform(0.6, 1.3, 3)
                parts[:, :6] = np.clip(parts[:, :6] * np.tile(tint, 2), 0.004, 0.95)
            self._materials[entry] = self.b.material(parts[0])
            for row in parts[1:]:
                self.b.material(row)
        placed = turn(model.vertices, yaw) + np.array(at, np.float32)
        self.b.mesh(placed, model.triangles, model.part_of + self._materials[entry], model.vertices)
        return True

    def thing(self, entries: list[Entry], at: Place, yaw: float) -> bool:
        """Any of these models; False where there are none."""
        return bool(entries) and self.modelled(entries[int(self.rng.integers(len(entries)))], at, yaw)

    def table(
        self, x: float, z: float, yaw: float, width: float, depth: float, height: float = 0.74, round_top: bool = False
    ) -> None:
        b, at = self.b, (x, 0.0, z)
        if round_top:
            b.cylinder(at, yaw, (0, height - 0.02, 0), width / 2, 0.04, self.top, 20)
            b.cylinder(at, yaw, (0, height / 2, 0), 0.06, height, self.metal)
            return
        b.box(at, yaw, (0, height - 0.02, 0), (width, 0.04, depth), self.top)
        if self.rng.random() < 0.35:  # closed sides
            for s in (-1, 1):
                b.box(
                    at,
                    yaw,
                    (s * (width / 2 - 0.03), height / 2 - 0.02, 0),
                    (0.04, height - 0.04, depth * 0.9),
                    self.top,
                )
            b.box(at, yaw, (0, height * 0.6, depth * 0.4), (width * 0.95, height * 0.5, 0.03), self.top)
        else:
            for sx in (-1, 1):
                for sz in (-1, 1):
                    b.box(
                        at,
                        yaw,
                        (sx * (width / 2 - 0.06), height / 2 - 0.02, sz * (depth / 2 - 0.06)),
                        (0.05, height - 0.04, 0.05),
                        self.metal,
                    )

    def chair(self, x: float, z: float, yaw: float, kind: int | None = None) -> None:
        """Looks along +z at yaw 0. Its back may carry a coat, its seat a bag."""
        b, at, rng, h = self.b, (x, 0.0, z), self.rng, self.seat
        if kind is None and self.chair_entry is not None and self.modelled(self.chair_entry, at, yaw):
            self._on_chair(x, z, yaw, h, float(rng.uniform(0.35, 0.6)))
            return
        kind = self.chair_kind if kind is None else kind
        back_h = float(rng.uniform(0.35, 0.6)) if kind != 3 else 0.45
        if kind == 0:  # four legs
            b.box(at, yaw, (0, h - 0.02, 0), (0.42, 0.04, 0.42), self.wood)
            b.box(at, yaw, (0, h + back_h / 2 + 0.12, -0.2), (0.4, back_h * 0.6, 0.03), self.wood, -0.12)
            for sx in (-1, 1):
                for sz in (-1, 1):
                    b.box(at, yaw, (sx * 0.18, h / 2, sz * 0.18), (0.035, h, 0.035), self.metal)
                b.box(at, yaw, (sx * 0.18, h + back_h / 2, -0.2), (0.03, back_h, 0.03), self.metal, -0.12)
        elif kind == 1:  # office chair
            b.box(at, yaw, (0, h - 0.04, 0), (0.48, 0.08, 0.46), self.fabric)
            b.box(at, yaw, (0, h + 0.12 + back_h / 2, -0.23), (0.44, back_h, 0.07), self.fabric, -0.15)
            b.cylinder(at, yaw, (0, h / 2, 0), 0.03, h, self.dark, 6)
            for k in range(5):
                a = k * 2 * math.pi / 5
                b.box(at, yaw + a, (0, 0.06, 0.16), (0.05, 0.05, 0.3), self.dark)
            if rng.random() < 0.5:
                for sx in (-1, 1):
                    b.box(at, yaw, (sx * 0.27, h + 0.2, 0.02), (0.05, 0.03, 0.28), self.dark)
                    b.box(at, yaw, (sx * 0.27, h + 0.08, 0.0), (0.03, 0.24, 0.04), self.dark)
        elif kind == 2:  # shell on a cantilever
            b.box(at, yaw, (0, h - 0.02, 0), (0.44, 0.05, 0.44), self.fabric)
            b.box(at, yaw, (0, h + 0.05 + back_h / 2, -0.22), (0.44, back_h, 0.04), self.fabric, -0.2)
            for sx in (-1, 1):
                b.box(at, yaw, (sx * 0.22, h / 2, 0.2), (0.025, h, 0.025), self.metal)
                b.box(at, yaw, (sx * 0.22, 0.02, 0), (0.025, 0.025, 0.44), self.metal)
        elif kind == 3:  # armchair
            b.box(at, yaw, (0, 0.2, 0.03), (0.72, 0.4, 0.68), self.fabric)
            b.box(at, yaw, (0, 0.6, -0.28), (0.72, back_h + 0.1, 0.18), self.fabric, -0.15)
            for sx in (-1, 1):
                b.box(at, yaw, (sx * 0.34, 0.42, 0.0), (0.14, 0.32, 0.66), self.fabric)
        else:  # rounded back
            b.cylinder(at, yaw, (0, h - 0.03, 0), 0.23, 0.06, self.fabric, 12)
            for k in range(-3, 4):
                a = math.pi + k * 0.32
                b.box(at, yaw + a, (0, h + 0.22, 0.22), (0.09, back_h, 0.03), self.fabric)
            b.cylinder(at, yaw, (0, h / 2, 0), 0.03, h, self.metal, 6)
            b.cylinder(at, yaw, (0, 0.015, 0), 0.22, 0.03, self.metal, 10)
        self._on_chair(x, z, yaw, h, back_h)

    def _on_chair(self, x: float, z: float, yaw: float, h: float, back_h: float) -> None:
        """At times a coat over the back, or a bag on the seat."""
        b, at, rng = self.b, (x, 0.0, z), self.rng
        roll = rng.random()
        if roll < 0.07:  # a coat over the back
            which = b.material(fabric(rng))
            b.box(at, yaw, (0, h + 0.12 + back_h / 2, -0.24), (0.46, back_h + 0.12, 0.12), which, -0.15)
            if rng.random() < 0.5:
                b.box(at, yaw, (0, h + back_h + 0.18, -0.27), (0.3, 0.1, 0.15), which)
        elif roll < 0.12:
            self.bag(x, z, h, yaw)

    def bag(self, x: float, z: float, y: float, yaw: float) -> None:
        which = self.b.material(fabric(self.rng))
        w, t, d = self.rng.uniform(0.25, 0.4), self.rng.uniform(0.28, 0.5), self.rng.uniform(0.15, 0.25)
        self.b.box((x, y, z), yaw, (0, t / 2, 0), (w, t, d), which)
        self.b.box((x, y, z), yaw, (0, t * 0.4, d * 0.6), (w * 0.7, t * 0.5, 0.07), which)

    def things(self, x: float, z: float, y: float, yaw: float, width: float, depth: float, count: int) -> None:
        """What lies and stands on tables: laptops, screens, papers, bottles, cups, boxes, lamps."""
        rng, b = self.rng, self.b
        for _ in range(count):
            u, v = rng.uniform(-width / 2 + 0.1, width / 2 - 0.1), rng.uniform(-depth / 2 + 0.1, depth / 2 - 0.1)
            c, s = math.cos(yaw), math.sin(yaw)
            at = (x + c * u + s * v, y, z - s * u + c * v)
            turn = yaw + float(rng.choice([0, math.pi])) + float(rng.normal(0, 0.3))
            if self.catalogue is not None and rng.random() < 0.35 and self.thing(self.catalogue.table, at, turn):
                continue
            kind = rng.random()
            if kind < 0.25:
                lid = self.dark if rng.random() < 0.5 else self.metal
                b.box(at, turn, (0, 0.01, 0), (0.33, 0.02, 0.23), lid)
                b.box(at, turn, (0, 0.12, -0.15), (0.33, 0.22, 0.01), lid, -0.3)
                if rng.random() < 0.8:
                    screen = b.material(part((0.5, 0.6, 0.8), emission=float(rng.uniform(0.3, 1.5))))
                    b.box(at, turn, (0, 0.12, -0.143), (0.3, 0.19, 0.006), screen, -0.3)
            elif kind < 0.42:
                w = float(rng.uniform(0.45, 0.65))
                b.box(at, turn, (0, 0.3, 0), (w, w * 0.58, 0.03), self.dark)
                b.box(at, turn, (0, 0.08, -0.04), (0.05, 0.16, 0.03), self.dark)
                b.box(at, turn, (0, 0.01, -0.02), (0.22, 0.02, 0.18), self.dark)
                glow = b.material(
                    part(
                        bright(rng),
                        bright(rng),
                        int(rng.choice([PLAIN, STRIPES_Y, CHECKS, PHOTO])),
                        float(rng.uniform(5, 30)),
                        emission=float(rng.uniform(0.3, 1.5)),
                        photo=int(rng.integers(self.photos)),
                    )
                )
                b.box(at, turn, (0, 0.3, 0.017), (w * 0.95, w * 0.53, 0.006), glow)
            elif kind < 0.6:
                b.box(at, turn, (0, 0.004, 0), (0.21, 0.006, 0.3), self.white)
            elif kind < 0.78:
                which = b.material(part(bright(rng), gloss=0.2))
                b.cylinder(at, 0, (0, 0.1, 0), 0.035, float(rng.uniform(0.09, 0.26)), which, 8)
            elif kind < 0.9:
                which = b.material(
                    part(bright(rng), grey(rng, 0.1, 0.9), int(rng.choice([PLAIN, BLOTCHES, STRIPES_Y])), 12.0)
                )
                size = rng.uniform(0.08, 0.35, 3)
                b.box(at, turn, (0, size[1] / 2, 0), (float(size[0]), float(size[1]), float(size[2])), which)
            else:
                which = b.material(part(bright(rng)))
                b.cylinder(at, 0, (0, 0.2, 0), 0.012, 0.4, self.metal, 6)
                b.cylinder(at, 0, (0, 0.42, 0), 0.12, 0.14, which, 10, 0.07)

    def clutter(self, x: float, z: float, yaw: float) -> None:
        """One thing on the floor that is nobody."""
        if (
            self.catalogue is not None
            and self.rng.random() < 0.65
            and self.thing(self.catalogue.floor, (x, 0.0, z), yaw)
        ):
            return
        kinds = (
            self._plant, self._shelf, self._bin, self._coat_rack, self._board, self._cupboard, self._boxes,
            self._screen, self._lamp,
        )  # fmt: skip
        kinds[int(self.rng.integers(len(kinds)))]((x, 0.0, z), yaw)

    def _plant(self, at: Place, _: float) -> None:
        """A plant in a pot."""
        rng, b = self.rng, self.b
        h = float(rng.uniform(0.7, 1.8))
        b.cylinder(at, 0, (0, 0.2, 0), 0.16, 0.4, b.material(part(bright(rng))), 10, 0.2)
        leaf = b.material(part((0.06, 0.2 * rng.uniform(0.6, 1.6), 0.05), (0.1, 0.3, 0.08), BLOTCHES, 20.0))
        b.cylinder(at, 0, (0, h / 2, 0), 0.02, h, self.wood, 5)
        for _ in range(int(rng.integers(10, 26))):
            p = rng.normal(0, 1, 3) * [0.17, 0.2, 0.17] + [0, h * 0.85, 0]
            where = (float(p[0]), float(max(p[1], 0.4)), float(p[2]))
            size = (float(rng.uniform(0.04, 0.14)), 0.01, float(rng.uniform(0.15, 0.4)))
            b.box(at, float(rng.uniform(0, 6)), where, size, leaf, float(rng.uniform(-1.2, 1.2)))

    def _shelf(self, at: Place, yaw: float) -> None:
        """A shelf with books."""
        rng, b = self.rng, self.b
        w, h = float(rng.uniform(0.7, 1.4)), float(rng.uniform(0.9, 2.1))
        for s in (-1, 1):
            b.box(at, yaw, (s * w / 2, h / 2, 0), (0.03, h, 0.35), self.wood)
        for k in range(int(h / 0.38) + 1):
            b.box(at, yaw, (0, min(k * 0.38 + 0.02, h), 0), (w, 0.03, 0.35), self.wood)
            for _ in range(int(rng.integers(0, 7))):
                tall = float(rng.uniform(0.15, 0.32))
                b.box(
                    at,
                    yaw,
                    (float(rng.uniform(-0.4, 0.4)) * w, k * 0.38 + tall / 2 + 0.03, 0),
                    (float(rng.uniform(0.05, 0.25)), tall, 0.24),
                    b.material(part(bright(rng))),
                )

    def _bin(self, at: Place, _: float) -> None:
        """A waste bin."""
        rng, b = self.rng, self.b
        b.cylinder(at, 0, (0, 0.3, 0), float(rng.uniform(0.14, 0.25)), 0.6, b.material(part(grey(rng, 0.05, 0.6))), 12)

    def _coat_rack(self, at: Place, yaw: float) -> None:
        """A coat rack: clothes without anybody in them."""
        rng, b = self.rng, self.b
        b.cylinder(at, 0, (0, 0.85, 0), 0.02, 1.7, self.metal, 6)
        for k in range(int(rng.integers(1, 5))):
            which = b.material(fabric(rng))
            a = yaw + k * 1.5
            b.box(at, a, (0, 1.2, 0.12), (0.36, float(rng.uniform(0.6, 0.95)), 0.12), which, 0.06)

    def _board(self, at: Place, yaw: float) -> None:
        """A board on wheels."""
        rng, b = self.rng, self.b
        b.box(at, yaw, (0, 1.3, 0), (float(rng.uniform(0.9, 1.6)), 1.0, 0.03), self.white)
        for s in (-1, 1):
            b.box(at, yaw, (s * 0.6, 0.9, 0), (0.04, 1.8, 0.04), self.metal)
            b.box(at, yaw, (s * 0.6, 0.04, 0), (0.06, 0.05, 0.5), self.metal)

    def _cupboard(self, at: Place, yaw: float) -> None:
        """A cupboard."""
        rng, b = self.rng, self.b
        w, h = float(rng.uniform(0.6, 1.5)), float(rng.uniform(0.7, 2.0))
        b.box(at, yaw, (0, h / 2, 0), (w, h, 0.45), self.wood)
        b.box(at, yaw, (0, h / 2, 0.226), (0.015, h * 0.95, 0.01), self.dark)

    def _boxes(self, at: Place, yaw: float) -> None:
        """A stack of boxes."""
        rng, b = self.rng, self.b
        y = 0.0
        for _ in range(int(rng.integers(1, 5))):
            size = (float(rng.uniform(0.25, 0.55)), float(rng.uniform(0.25, 0.55)), float(rng.uniform(0.25, 0.55)))
            card = b.material(part((0.45, 0.32, 0.2), (0.4, 0.28, 0.17), SPECKLE, 9.0))
            b.box((at[0], y, at[2]), float(yaw + rng.normal(0, 0.3)), (0, size[1] / 2, 0), size, card)
            y += size[1]

    def _screen(self, at: Place, yaw: float) -> None:
        """A large screen on a stand."""
        rng, b = self.rng, self.b
        b.box(at, yaw, (0, 1.35, 0), (1.1, 0.65, 0.06), self.dark)
        glow = b.material(
            part(
                (0.9, 0.9, 0.9),
                pattern=PHOTO,
                photo=int(rng.integers(self.photos)),
                emission=float(rng.uniform(0, 0.8)),
            )
        )
        b.box(at, yaw, (0, 1.35, 0.035), (1.02, 0.58, 0.01), glow)
        b.box(at, yaw, (0, 0.6, -0.02), (0.08, 1.1, 0.05), self.metal)
        b.box(at, yaw, (0, 0.03, 0), (0.7, 0.05, 0.5), self.metal)

    def _lamp(self, at: Place, _: float) -> None:
        """A floor lamp."""
        rng, b = self.rng, self.b
        b.cylinder(at, 0, (0, 0.75, 0), 0.02, 1.5, self.metal, 6)
        b.cylinder(at, 0, (0, 0.02, 0), 0.17, 0.04, self.metal, 12)
        b.cylinder(
            at,
            0,
            (0, 1.6, 0),
            0.22,
            0.3,
            b.material(part((0.95, 0.9, 0.8), emission=float(rng.uniform(0, 1.5)))),
            12,
            0.13,
        )

    def column(self, x: float, z: float, height: float) -> None:
        if self.rng.random() < 0.5:
            self.b.cylinder((x, 0, z), 0, (0, height / 2, 0), 0.22, height, self.white, 14)
        else:
            self.b.box((x, 0, z), 0, (0, height / 2, 0), (0.4, height, 0.4), self.white)
