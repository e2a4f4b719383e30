"""Meshes of boxes and cylinders, collected with their materials."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

_PIECE = 0.45  # metres: larger faces are cut, so that bent lenses bend them


class Builder:
    """Collects meshes and materials. Positions in metres; ``yaw`` turns about the vertical, 0 faces +z."""

    def __init__(self) -> None:
        self.vertices: list[F32] = []
        self.rest: list[F32] = []
        self.triangles: list[I32] = []
        self.part_of: list[I32] = []
        self.parts: list[F32] = []
        self.count = 0

    def material(self, material: F32) -> int:
        self.parts.append(material)
        return len(self.parts) - 1

    def mesh(self, vertices: F32, triangles: I32, which: int | I32, rest: F32 | None = None) -> None:
        """Add a mesh with one material (or one a triangle)."""
        self.vertices.append(vertices.astype(np.float32))
        self.rest.append((vertices if rest is None else rest).astype(np.float32))
        self.triangles.append((triangles + self.count).astype(np.int32))
        self.part_of.append(np.broadcast_to(np.asarray(which, np.int32), (len(triangles),)))
        self.count += len(vertices)

    def box(
        self, place: tuple[float, float, float], yaw: float, centre: tuple[float, float, float],
        size: tuple[float, float, float], which: int, tilt: float = 0.0,
    ) -> None:  # fmt: skip
        """A box at ``centre`` (in the frame of ``place`` and ``yaw``), tilted about its own x axis."""
        local, triangles = _box(size)
        rest = local.copy()
        if tilt:
            c, s = math.cos(tilt), math.sin(tilt)
            local = local @ np.array([[1, 0, 0], [0, c, s], [0, -s, c]], np.float32)
        local = local + np.array(centre, np.float32)
        self.mesh(turn(local, yaw) + np.array(place, np.float32), triangles, which, rest)

    def cylinder(
        self, place: tuple[float, float, float], yaw: float, centre: tuple[float, float, float],
        radius: float, height: float, which: int, sides: int = 10, top: float | None = None,
    ) -> None:  # fmt: skip
        """An upright cylinder or cone, open at no end; ``top`` is the upper radius."""
        top = radius if top is None else top
        angle = np.arange(sides) * 2 * np.pi / sides
        rings = max(1, round(height / _PIECE))
        points = [np.array([[0, -height / 2, 0]]), *(
            np.stack([np.cos(angle) * r, np.full(sides, y), np.sin(angle) * r], 1)
            for r, y in (
                (radius + (top - radius) * k / rings, -height / 2 + height * k / rings) for k in range(rings + 1)
            )
        ), np.array([[0, height / 2, 0]])]  # fmt: skip
        local = np.concatenate(points).astype(np.float32)
        tri = []
        for k in range(sides):
            m = (k + 1) % sides
            tri.append((0, 1 + m, 1 + k))
            last = 1 + rings * sides
            tri.append((len(local) - 1, last + k, last + m))
            for r in range(rings):
                p, q = 1 + r * sides, 1 + (r + 1) * sides
                tri += [(p + k, p + m, q + k), (p + m, q + m, q + k)]
        self.mesh(turn(local + np.array(centre, np.float32), yaw) + np.array(place, np.float32),
                  np.array(tri, np.int32), which, local)  # fmt: skip


def turn(points: F32, yaw: float) -> F32:
    """``[N, 3]`` turned about the vertical."""
    c, s = math.cos(yaw), math.sin(yaw)
    return (points @ np.array([[c, 0, -s], [0, 1, 0], [s, 0, c]], np.float32)).astype(np.float32)


def _box(size: tuple[float, float, float]) -> tuple[F32, I32]:
    pieces = (
        max(1, math.ceil(size[0] / _PIECE)),
        max(1, math.ceil(size[1] / _PIECE)),
        max(1, math.ceil(size[2] / _PIECE)),
    )
    unit, triangles = _unit_box(pieces)
    return (unit * (np.array(size) / 2)).astype(np.float32), triangles


@lru_cache(maxsize=4096)
def _unit_box(pieces: tuple[int, int, int]) -> tuple[NDArray[np.float64], I32]:
    """A box from -1 to 1, its faces cut into this many pieces along x, y and z."""
    vertices: list[NDArray[np.float64]] = []
    triangles: list[tuple[int, int, int]] = []
    start = 0
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        nu, nv = pieces[u], pieces[v]
        gu, gv = np.meshgrid(np.linspace(-1, 1, nu + 1), np.linspace(-1, 1, nv + 1))
        for sign in (-1, 1):
            face = np.zeros((gu.size, 3))
            face[:, axis], face[:, u], face[:, v] = sign, gu.ravel(), gv.ravel()
            vertices.append(face)
            for j in range(nv):
                for i in range(nu):
                    a = start + j * (nu + 1) + i
                    b, c, d = a + 1, a + nu + 1, a + nu + 2
                    triangles += [(a, b, d), (a, d, c)] if sign > 0 else [(a, d, b), (a, c, d)]
            start += gu.size
    return np.concatenate(vertices), np.array(triangles, np.int32)
