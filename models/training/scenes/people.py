"""People: bodies of all builds, dressed and with hair, that can be posed and skinned quickly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numba as nb
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .assets import BONE_INDEX, BONES, METRES, PARENTS, Assets, Fitted
from .materials import BLOTCHES, CHECKS, PLAIN, SPECKLE, STREAKS, STRIPES_X, STRIPES_Y, part
from .poses import Pose, bone_rotations

F32 = NDArray[np.float32]
I32 = NDArray[np.int32]

_SKIN = (
    (0.89, 0.72, 0.62),
    (0.83, 0.63, 0.52),
    (0.72, 0.52, 0.40),
    (0.55, 0.37, 0.27),
    (0.38, 0.25, 0.18),
    (0.25, 0.16, 0.12),
)
_HAIR = ((0.05, 0.04, 0.04), (0.10, 0.07, 0.05), (0.20, 0.13, 0.08), (0.33, 0.22, 0.13), (0.60, 0.46, 0.27),
         (0.75, 0.63, 0.42), (0.55, 0.54, 0.53), (0.80, 0.79, 0.77), (0.42, 0.16, 0.08))  # fmt: skip


@dataclass(frozen=True)
class Character:
    """One dressed person at rest.

    Attributes:
        rest: ``[V, 3]`` metres, feet at y = 0.
        bone_index, bone_weight: ``[V, 4]``, the four strongest bones of each vertex.
        triangles: ``[T, 3]``.
        part_of: ``[T]`` material of each triangle, an index into ``parts``.
        parts: ``[P, 12]``.
        joints: ``[B, 3]`` heads of the posed bones.
        head_vertices: mask ``[V]`` of what belongs to the head, hair and hat included.
        height: metres.
    """

    rest: F32
    bone_index: I32
    bone_weight: F32
    triangles: I32
    part_of: I32
    parts: F32
    joints: F32
    head_vertices: NDArray[np.bool_]
    height: float
    female: bool

    def posed(self, pose: Pose) -> F32:
        """The vertices in a pose, ``[V, 3]`` metres; the lowest point at y = 0 unless the pose sets the seat."""
        rotation = bone_rotations(pose)
        position = np.empty_like(self.joints)
        for bone, parent in enumerate(PARENTS):
            if parent < 0:
                position[bone] = self.joints[bone]
            else:
                position[bone] = position[parent] + rotation[parent] @ (self.joints[bone] - self.joints[parent])
        offset = position - np.einsum("bij,bj->bi", rotation, self.joints)
        vertices = _skin(self.rest, self.bone_index, self.bone_weight, rotation, offset.astype(np.float32))
        if pose.seat is None:
            vertices[:, 1] -= vertices[:, 1].min()
        else:
            vertices[:, 1] += pose.seat + 0.11 - position[0, 1]
            vertices[:, (0, 2)] -= position[0, [0, 2]]
            vertices[:, 1] = np.maximum(vertices[:, 1], 0.0)  # shoes do not sink into the floor
        return vertices


@nb.njit(cache=True)
def _skin(rest: F32, index: I32, weight: F32, rotation: F32, offset: F32) -> F32:
    out = np.zeros_like(rest)
    for i in range(rest.shape[0]):
        x, y, z = rest[i, 0], rest[i, 1], rest[i, 2]
        for k in range(4):
            w = weight[i, k]
            if w == 0.0:
                continue
            b = index[i, k]
            for c in range(3):
                out[i, c] += w * (rotation[b, c, 0] * x + rotation[b, c, 1] * y + rotation[b, c, 2] * z + offset[b, c])
    return out


class Cast:
    """All the people of one production: character ``k`` is always the same person.

    Args:
        assets: where the bodies come from.
        seed: of the whole cast.
        size: how many different people there are.
        keep: hold this many characters in memory (the least recently used leaves first).
    """

    def __init__(self, assets: Assets, seed: int, size: int = 400, keep: int = 400) -> None:
        self.assets, self.seed, self.size = assets, seed, size
        self.get = lru_cache(maxsize=keep)(self._build)

    def _build(self, k: int) -> Character:
        return build_character(self.assets, np.random.default_rng([self.seed, 7, k]))


def _shape(rng: Generator, female: bool) -> dict[str, float]:
    gender = "female" if female else "male"
    # offices and class rooms: mostly adults, some old, a few children
    old = float(np.clip(rng.normal(0.15, 0.25), 0, 1)) if rng.random() < 0.6 else float(rng.uniform(0, 1))
    child = float(rng.uniform(0.15, 0.55)) if rng.random() < 0.06 else 0.0
    ages = {"child": child, "old": old * (1 - child), "young": (1 - old) * (1 - child)}
    races = dict(zip(("caucasian", "asian", "african"), rng.dirichlet([0.6, 0.5, 0.5]), strict=True))
    muscle, weight = float(np.clip(rng.normal(0, 0.5), -1, 1)), float(np.clip(rng.normal(0.1, 0.55), -1, 1))
    height = float(np.clip(rng.normal(0, 0.45), -1, 1))
    shape: dict[str, float] = {}
    for age, share in ages.items():
        for race, r in races.items():
            shape[f"{race}-{gender}-{age}"] = share * float(r)
        for m, mw in (("min", max(-muscle, 0)), ("average", 1 - abs(muscle)), ("max", max(muscle, 0))):
            for w, ww in (("min", max(-weight, 0)), ("average", 1 - abs(weight)), ("max", max(weight, 0))):
                shape[f"universal-{gender}-{age}-{m}muscle-{w}weight"] = share * mw * ww
        side = "min" if height < 0 else "max"
        shape[f"height/{gender}-{age}-averagemuscle-averageweight-{side}height"] = share * abs(height)
    return shape


def _colour(rng: Generator) -> tuple[float, float, float]:
    """What people wear: mostly dark, grey, blue, white; at times a strong colour."""
    kind = rng.random()
    if kind < 0.35:
        v = rng.uniform(0.02, 0.2)
        return (v * rng.uniform(0.85, 1.1), v * rng.uniform(0.85, 1.1), v * rng.uniform(0.9, 1.25))
    if kind < 0.55:
        v = rng.uniform(0.2, 0.95)
        return (v, v * rng.uniform(0.93, 1.03), v * rng.uniform(0.88, 1.05))
    if kind < 0.75:
        v = rng.uniform(0.08, 0.6)
        return (v * rng.uniform(0.35, 0.75), v * rng.uniform(0.55, 0.9), v)
    hue, s, v = rng.random(), rng.uniform(0.2, 0.8), rng.uniform(0.15, 0.85)
    k = [(n + hue * 6) % 6 for n in (5, 3, 1)]
    rgb = [v - v * s * max(0.0, min(x, 4 - x, 1)) for x in k]
    return (rgb[0], rgb[1], rgb[2])


def _cloth(rng: Generator, lower: bool) -> F32:
    a, b = _colour(rng), _colour(rng)
    if lower:
        kind = PLAIN if rng.random() < 0.8 else SPECKLE
        return part(a, b, kind, rng.uniform(20, 60), 0.02, seed=float(rng.uniform(0, 50)))
    kind = int(
        rng.choice([PLAIN, STRIPES_Y, STRIPES_X, CHECKS, BLOTCHES, SPECKLE], p=[0.55, 0.1, 0.07, 0.12, 0.1, 0.06])
    )
    scale = {STRIPES_Y: rng.uniform(6, 30), STRIPES_X: rng.uniform(8, 30), CHECKS: rng.uniform(6, 25),
             BLOTCHES: rng.uniform(8, 30)}.get(kind, rng.uniform(20, 60))  # fmt: skip
    return part(a, b, kind, float(scale), 0.02, seed=float(rng.uniform(0, 50)))


def _components(triangles: I32, count: int) -> I32:
    """Connected component of every vertex, by label propagation with pointer jumping."""
    label = np.arange(count)
    edges = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]]])
    while True:
        before = label.copy()
        low = np.minimum(label[edges[:, 0]], label[edges[:, 1]])
        np.minimum.at(label, edges[:, 0], low)
        np.minimum.at(label, edges[:, 1], low)
        label = label[label]
        if np.array_equal(label, before):
            return label.astype(np.int32)


def _dress(rng: Generator, vertices: F32, mesh: Fitted, weights: F32, waist: float) -> tuple[I32, list[F32]]:
    """Materials of a suit: each connected piece is one garment, split at the waist where it is one piece."""
    piece = _components(mesh.triangles, len(vertices))[mesh.triangles[:, 0]]
    low = vertices[mesh.triangles[:, 0], 1] < waist
    legs = weights[:, [i for i, (n, _) in enumerate(BONES) if "leg" in n or "foot" in n]].sum(1) > 0.5
    parts: list[F32] = []
    part_of = np.zeros(len(mesh.triangles), np.int32)
    trousers, shirt, extra = _cloth(rng, True), _cloth(rng, False), _cloth(rng, False)
    parts = [shirt, trousers, extra]
    sizes = sorted(((np.sum(piece == p), p) for p in np.unique(piece)), reverse=True)
    for rank, (_, p) in enumerate(sizes):
        mine = piece == p
        leg_share = legs[mesh.triangles[mine, 0]].mean()
        if leg_share > 0.6:
            part_of[mine] = 1
        elif leg_share > 0.15:
            part_of[mine] = np.where(low[mine], 1, 0)
        else:
            part_of[mine] = 0 if rank < 2 else 2
    return part_of, parts


def build_character(assets: Assets, rng: Generator) -> Character:
    """One person with a random body, clothes, shoes and hair."""
    female = bool(rng.random() < 0.5)
    shape = assets.morph(_shape(rng, female))
    suits = [n for n in assets.names("clothes") if "suit" in n and ("/female" in n) == female]
    hairs = [*assets.names("hair")] if female else [n for n in assets.names("hair") if "short" in n or "afro" in n]
    meshes = [assets.fitted(str(rng.choice(suits))), assets.fitted(str(rng.choice(assets.names("clothes", "shoes"))))]
    hat = rng.random() < 0.05
    bald = not female and rng.random() < 0.1
    if hat:
        meshes.append(assets.fitted("clothes/fedora01/fedora.mhclo"))
    elif not bald:
        meshes.append(assets.fitted(str(rng.choice(hairs))))
    body = assets.fitted(f"proxymeshes/{'female1605/female1605' if female else 'male1591/male1591'}.proxy")

    deleted = frozenset().union(*(m.deleted for m in meshes))
    hidden = np.asarray(np.isin(body.refs, np.fromiter(deleted, np.int64, len(deleted))), bool).all(axis=1)
    skin_triangles = body.triangles[~np.asarray(hidden)[body.triangles].any(1)]

    floor = float(shape[assets.body_vertices, 1].min())
    top = float(shape[assets.body_vertices, 1].max())
    tone = np.array(_SKIN[int(rng.integers(len(_SKIN)))]) * rng.uniform(0.85, 1.12)
    hair = np.array(_HAIR[int(rng.choice(len(_HAIR), p=[0.24, 0.2, 0.18, 0.12, 0.06, 0.05, 0.07, 0.05, 0.03]))])
    lip = tone * np.array([0.85, 0.55, 0.55])
    parts = [part(tuple(tone), tuple(tone * 0.9), SPECKLE, 30.0, 0.06), part((0.06, 0.05, 0.05)), part(tuple(lip))]

    vertices, triangles, part_of, weights = [], [], [], []
    start = 0

    def add(mesh: Fitted, tri: I32, which: I32) -> None:
        nonlocal start
        fitted = mesh.fit(shape)
        vertices.append(fitted)
        triangles.append(tri + start)
        part_of.append(which)
        w = np.einsum("vk,vkb->vb", np.clip(mesh.weights, 0, 1), assets.bone_weights[mesh.refs])
        weights.append(w / np.maximum(w.sum(1, keepdims=True), 1e-6))
        start += len(fitted)

    fitted_body = body.fit(shape)
    centres = fitted_body[skin_triangles].mean(1)
    which = np.zeros(len(skin_triangles), np.int32)
    for eye in assets.eyes:
        middle = shape[eye].mean(0)
        which[np.linalg.norm((centres - middle) * [1, 1.6, 0.8], axis=1) < 0.17] = 1
        brow = middle + np.array([0, 0.2, 0.05])
        which[(np.linalg.norm((centres - brow) * [0.8, 2.2, 0.8], axis=1) < 0.16) & (which == 0)] = 1
    between = (shape[assets.eyes[0]].mean(0) + shape[assets.eyes[1]].mean(0)) / 2
    which[np.linalg.norm((centres - between - [0, -0.72, 0.15]) * [0.7, 2.0, 0.8], axis=1) < 0.14] = 2
    if not female and rng.random() < 0.35:  # a beard
        parts.append(part(tuple(hair * 0.9), tuple(tone), SPECKLE, 40.0))
        chin = between + np.array([0, -0.85, 0.0])
        which[
            (np.linalg.norm((centres - chin) * [0.9, 1.1, 0.8], axis=1) < 0.55) & (centres[:, 1] < between[1] - 0.45)
        ] = 3
    add(body, skin_triangles, which)

    waist = float(shape[assets.joints[BONE_INDEX["spine05"]], 1].mean())
    for rank, mesh in enumerate(meshes):
        if rank == 0:
            own = np.einsum("vk,vkb->vb", mesh.weights, assets.bone_weights[mesh.refs])
            own_parts, garments = _dress(rng, mesh.fit(shape), mesh, own, waist)
        elif rank == 1:
            own_parts = np.zeros(len(mesh.triangles), np.int32)
            v = float(rng.uniform(0.02, 0.2)) if rng.random() < 0.7 else float(rng.uniform(0.3, 0.95))
            garments = [part((v, v * 0.95, v * 0.9), gloss=0.1)]
        elif hat:
            own_parts, garments = np.zeros(len(mesh.triangles), np.int32), [part(_colour(rng))]
        else:
            own_parts = np.zeros(len(mesh.triangles), np.int32)
            garments = [
                part(
                    tuple(hair), tuple(hair * rng.uniform(1.2, 2.0)), STREAKS, 60.0, 0.1, seed=float(rng.uniform(0, 9))
                )
            ]
        add(mesh, mesh.triangles, own_parts + len(parts))
        parts += garments

    rest = np.concatenate(vertices)
    weight = np.concatenate(weights)
    order = np.argsort(-weight, axis=1)[:, :4].astype(np.int32)
    strongest = np.take_along_axis(weight, order, 1)
    strongest /= np.maximum(strongest.sum(1, keepdims=True), 1e-6)
    head = weight[:, [BONE_INDEX["head"], BONE_INDEX["neck03"]]].sum(1) > 0.5
    rest = (rest - np.array([0, floor, 0], np.float32)) * METRES
    joints = (np.stack([shape[j].mean(0) for j in assets.joints]) - [0, floor, 0]) * METRES
    return Character(
        rest.astype(np.float32), order, strongest.astype(np.float32), np.concatenate(triangles).astype(np.int32),
        np.concatenate(part_of).astype(np.int32), np.stack(parts), joints.astype(np.float32), head,
        float((top - floor) * METRES), female,
    )  # fmt: skip


def walk_phase(distance: float, height: float) -> float:
    """Phase (radians) of the gait of a person of this height who has walked this far."""
    return 2 * math.pi * distance / (0.82 * height)
