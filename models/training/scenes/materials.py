"""Materials: colours and patterns as the shader reads them, and what floors, walls, furniture and fabrics wear."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

F32 = NDArray[np.float32]

# Pattern numbers of the shader (shade.py).
PLAIN, STRIPES_Y, STRIPES_X, CHECKS, BLOTCHES, WOOD, STREAKS, TILES, SPECKLE, PHOTO = range(10)
PART_FIELDS = 12
"""A part (material): colour rgb, second colour rgb, pattern, scale, gloss, emission, photo index, seed."""


def part(
    colour: tuple[float, ...],
    second: tuple[float, ...] | None = None,
    pattern: int = PLAIN,
    scale: float = 1.0,
    gloss: float = 0.0,
    emission: float = 0.0,
    photo: int = 0,
    seed: float = 0.0,
) -> F32:
    """One material as the shader reads it."""
    return np.array([*colour, *(second or colour), pattern, scale, gloss, emission, photo, seed], np.float32)


def grey(rng: Generator, low: float, high: float, tint: float = 0.08) -> tuple[float, float, float]:
    v = rng.uniform(low, high)
    t = rng.uniform(1 - tint, 1 + tint, 3)
    return (float(v * t[0]), float(v * t[1]), float(v * t[2]))


def bright(rng: Generator) -> tuple[float, float, float]:
    c = rng.uniform(0.05, 0.75, 3)
    return (float(c[0]), float(c[1]), float(c[2]))


def surface(rng: Generator) -> F32:
    """Table tops and cupboards: wood, white, grey, at times black."""
    kind = rng.random()
    if kind < 0.5:
        w = np.array([0.55, 0.36, 0.2]) * rng.uniform(0.4, 1.5)
        return part(
            tuple(w),
            tuple(w * rng.uniform(0.6, 0.9)),
            WOOD,
            float(rng.uniform(1, 5)),
            0.08,
            seed=float(rng.uniform(0, 9)),
        )
    if kind < 0.85:
        return part(grey(rng, 0.5, 0.95), gloss=0.08)
    return part(grey(rng, 0.02, 0.4), gloss=0.1)


def fabric(rng: Generator) -> F32:
    kind = rng.random()
    colour = grey(rng, 0.02, 0.35, 0.2) if kind < 0.5 else bright(rng)
    return part(colour, tuple(np.array(colour) * rng.uniform(0.5, 1.3)), SPECKLE if kind < 0.8 else PLAIN, 40.0, 0.0)


def floor_material(rng: Generator) -> F32:
    kind = rng.random()
    if kind < 0.3:
        w = np.array([0.5, 0.34, 0.2]) * rng.uniform(0.4, 1.6)
        return part(tuple(w), tuple(w * 0.75), WOOD, float(rng.uniform(0.8, 3)), 0.12, seed=float(rng.uniform(0, 9)))
    if kind < 0.55:
        c = grey(rng, 0.15, 0.8)
        return part(c, tuple(np.array(c) * rng.uniform(0.5, 0.95)), TILES, float(rng.uniform(1.2, 3.5)), 0.12)
    if kind < 0.85:
        c = grey(rng, 0.06, 0.5, 0.25)
        return part(c, tuple(np.array(c) * rng.uniform(0.5, 0.9)), SPECKLE, float(rng.uniform(8, 60)))
    return part(grey(rng, 0.2, 0.7), gloss=0.05)


def wall_material(rng: Generator) -> F32:
    if rng.random() < 0.75:
        return part(grey(rng, 0.5, 0.95, 0.06))
    if rng.random() < 0.5:
        return part(bright(rng))
    c = grey(rng, 0.3, 0.7, 0.2)
    return part(c, tuple(np.array(c) * 0.7), int(rng.choice([TILES, WOOD, STRIPES_Y])), float(rng.uniform(1, 4)))
