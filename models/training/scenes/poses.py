"""Poses by the directions of limbs: sitting, standing, walking and everything between.

A pose names directions in the body's own frame (x to its left, y up, z ahead); ``bone_rotations`` turns them into one
rotation a bone, against the rest pose of the MakeHuman rig (arms about 45 degrees down, legs straight).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .assets import BONE_INDEX, BONES

F32 = NDArray[np.float32]
Vector = tuple[float, float, float]
Limb = tuple[Vector, Vector]

# Rest directions of the rig (measured on the base mesh, equal for all builds within a few degrees).
_REST_UPPER_ARM = {"L": (0.64, -0.77, -0.01), "R": (-0.64, -0.77, -0.01)}
_REST_FOREARM = {"L": (0.52, -0.46, 0.72), "R": (-0.52, -0.46, 0.72)}
_REST_THIGH = {"L": (0.11, -0.99, 0.05), "R": (-0.11, -0.99, 0.05)}
_REST_SHIN = {"L": (0.16, -0.98, -0.09), "R": (-0.16, -0.98, -0.09)}

ARM_DOWN: Vector = (0.14, -1.0, 0.02)


@dataclass(frozen=True)
class Pose:
    """Directions are for the left side; the right side mirrors x. Angles in radians.

    Attributes:
        lean: bend of the trunk ahead, spread over the spine; ``sway`` bends it to the left.
        turn: twist of the chest against the hips; head angles come on top of the chest.
        arms: (upper, fore) directions for left and right, in the chest's frame.
        legs: (thigh, shin) directions for left and right.
        seat: height of the seat in metres, or None where the feet carry.
    """

    lean: float = 0.0
    sway: float = 0.0
    turn: float = 0.0
    head_yaw: float = 0.0
    head_pitch: float = 0.0
    head_roll: float = 0.0
    arms: tuple[tuple[Vector, Vector], tuple[Vector, Vector]] = ((ARM_DOWN, ARM_DOWN), (ARM_DOWN, ARM_DOWN))
    legs: tuple[tuple[Vector, Vector], tuple[Vector, Vector]] = (((0.06, -1, 0), (0.03, -1, -0.05)),) * 2
    seat: float | None = None


def _euler(yaw: float, pitch: float, roll: float) -> NDArray[np.float64]:
    """Turn to the left by ``yaw``, nod ahead by ``pitch``, lean to the left by ``roll``."""
    cy, sy, cp, sp, cr, sr = (f(a) for a in (yaw, pitch, roll) for f in (math.cos, math.sin))
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rx = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    rz = np.array([[cr, sr, 0], [-sr, cr, 0], [0, 0, 1]])
    return ry @ rx @ rz


def between(a: Vector, b: Vector) -> NDArray[np.float64]:
    """The shortest rotation from direction ``a`` to direction ``b`` (Rodrigues)."""
    u, v = np.array(a, np.float64), np.array(b, np.float64)
    u, v = u / np.linalg.norm(u), v / np.linalg.norm(v)
    axis, c = np.cross(u, v), float(u @ v)
    if c < -0.9999:  # opposite: turn about any axis at a right angle
        return 2 * np.outer(w := np.array([1.0, 0, 0]), w) - np.eye(3)
    k = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + k + k @ k / (1 + c)


def _mirror(v: Vector, side: str) -> Vector:
    return v if side == "L" else (-v[0], v[1], v[2])


def bone_rotations(pose: Pose) -> F32:
    """Global rotation of every posed bone, ``[B, 3, 3]`` float32."""
    out = np.tile(np.eye(3), (len(BONES), 1, 1))
    spine = ("spine05", "spine04", "spine03", "spine02", "spine01")
    chest = np.eye(3)
    for k, name in enumerate(spine):
        share = (k + 1) / len(spine)
        chest = _euler(pose.turn * share, pose.lean * share, pose.sway * share)
        out[BONE_INDEX[name]] = chest
    for k, name in enumerate(("neck01", "neck02", "neck03", "head")):
        share = (k + 1) / 4
        # the head looks level by itself: about half of the trunk's lean is taken back
        nod = pose.head_pitch - 0.6 * pose.lean
        out[BONE_INDEX[name]] = chest @ _euler(pose.head_yaw * share, nod * share, pose.head_roll * share)
    for i, side in enumerate(("L", "R")):
        upper, fore = pose.arms[i]
        raised = max(0.0, upper[1]) * 0.35
        collar = chest @ _euler(0, 0, -raised if side == "L" else raised)
        out[BONE_INDEX[f"clavicle.{side}"]] = collar
        out[BONE_INDEX[f"shoulder01.{side}"]] = collar
        arm = chest @ between(_REST_UPPER_ARM[side], _mirror(upper, side))
        out[BONE_INDEX[f"upperarm01.{side}"]] = arm
        out[BONE_INDEX[f"upperarm02.{side}"]] = arm
        lower = chest @ between(_REST_FOREARM[side], _mirror(fore, side))
        for name in ("lowerarm01", "lowerarm02", "wrist"):
            out[BONE_INDEX[f"{name}.{side}"]] = lower
        thigh, shin = pose.legs[i]
        leg = between(_REST_THIGH[side], _mirror(thigh, side))
        out[BONE_INDEX[f"upperleg01.{side}"]] = leg
        out[BONE_INDEX[f"upperleg02.{side}"]] = leg
        below = between(_REST_SHIN[side], _mirror(shin, side))
        out[BONE_INDEX[f"lowerleg01.{side}"]] = below
        out[BONE_INDEX[f"lowerleg02.{side}"]] = below
        yaw = math.atan2(_mirror(thigh, side)[0], max(thigh[2], 0.3)) * 0.5
        out[BONE_INDEX[f"foot.{side}"]] = _euler(yaw, 0, 0)
    return out.astype(np.float32)


def _jitter(rng: Generator, v: Vector, amount: float) -> Vector:
    return (v[0] + rng.normal(0, amount), v[1] + rng.normal(0, amount), v[2] + rng.normal(0, amount))


def _limbs(rng: Generator, known: tuple[Limb, ...], pick: NDArray[np.int64], amount: float) -> tuple[Limb, Limb]:
    """Two of the known limbs, each a little different every time."""
    left, right = (known[int(p)] for p in pick)
    return (
        (_jitter(rng, left[0], amount), _jitter(rng, left[1], amount)),
        (_jitter(rng, right[0], amount), _jitter(rng, right[1], amount)),
    )


_SITTING_ARMS: tuple[tuple[Vector, Vector], ...] = (
    ((0.25, -0.9, 0.45), (-0.35, -0.05, 1.0)),  # forearm on the table
    ((0.3, -0.8, 0.6), (-0.5, 0.05, 0.9)),  # typing
    ((0.2, -0.75, 0.65), (-0.3, 0.85, 0.35)),  # hand at chin or phone at ear
    ((0.2, -1.0, 0.1), (-0.3, -0.5, 0.8)),  # hand in the lap
    ((0.3, -0.95, 0.3), (-0.9, 0.05, 0.5)),  # crossed
    ((0.15, -1.0, 0.05), (0.05, -1.0, 0.25)),  # hanging
    ((0.25, -0.5, 0.85), (0.0, -0.1, 1.0)),  # reaching out
    ((0.55, 0.75, 0.35), (0.05, 1.0, 0.25)),  # raised
    ((0.5, -0.6, 0.5), (0.25, 0.75, 0.6)),  # gesturing
)
_STANDING_ARMS: tuple[tuple[Vector, Vector], ...] = (
    (ARM_DOWN, (0.1, -1.0, 0.15)),
    ((0.2, -1.0, 0.0), (-0.05, -0.9, 0.4)),
    ((0.25, -0.95, 0.1), (-0.6, -0.1, 0.8)),  # holding something
    ((0.25, -0.9, 0.25), (-0.25, 0.8, 0.6)),  # phone
    ((0.35, -0.9, -0.15), (-0.4, -0.8, 0.35)),  # hand in the pocket
    ((0.3, -0.95, 0.2), (-0.95, 0.1, 0.4)),  # crossed
    ((0.4, -0.1, 0.9), (0.15, 0.3, 1.0)),  # pointing
    ((0.5, 0.8, 0.2), (0.0, 1.0, 0.3)),  # raised
)
_STANDING_P = (0.34, 0.2, 0.14, 0.1, 0.08, 0.06, 0.05, 0.03)
_SITTING_P = (0.26, 0.2, 0.12, 0.12, 0.08, 0.06, 0.06, 0.04, 0.06)


def sitting(rng: Generator, seat: float = 0.45) -> Pose:
    """At a table or in a row: arms on the table, typing, in the lap, at times raised."""
    pick = rng.choice(len(_SITTING_ARMS), 2, p=_SITTING_P)
    if rng.random() < 0.5:
        pick[1] = pick[0]
    arms = _limbs(rng, _SITTING_ARMS, pick, 0.08)
    spread = rng.uniform(0.05, 0.35)
    drop = rng.normal(0, 0.06)
    legs = tuple(
        ((spread + rng.normal(0, 0.06), -0.08 + drop, 1.0), (rng.normal(0.05, 0.08), -1.0, rng.normal(-0.05, 0.2)))
        for _ in range(2)
    )
    return Pose(
        lean=float(rng.normal(0.12, 0.2)), sway=float(rng.normal(0, 0.07)), turn=float(rng.normal(0, 0.15)),
        head_yaw=float(rng.normal(0, 0.45)), head_pitch=float(rng.normal(0.12, 0.22)),
        head_roll=float(rng.normal(0, 0.08)),
        arms=arms, legs=(legs[0], legs[1]), seat=seat,
    )  # fmt: skip


def standing(rng: Generator) -> Pose:
    """On both feet: talking, waiting, at the phone, pointing."""
    pick = rng.choice(len(_STANDING_ARMS), 2, p=_STANDING_P)
    arms = _limbs(rng, _STANDING_ARMS, pick, 0.07)
    legs = tuple(
        (
            (abs(rng.normal(0.1, 0.06)), -1.0, rng.normal(0, 0.08)),
            (rng.normal(0.04, 0.04), -1.0, -abs(rng.normal(0.05, 0.06))),
        )
        for _ in range(2)
    )
    bent = rng.random() < 0.1
    return Pose(
        lean=float(rng.uniform(0.3, 1.1)) if bent else float(rng.normal(0.03, 0.07)),
        sway=float(rng.normal(0, 0.05)), turn=float(rng.normal(0, 0.15)),
        head_yaw=float(rng.normal(0, 0.4)), head_pitch=float(rng.normal(0.1, 0.2)),
        head_roll=float(rng.normal(0, 0.06)),
        arms=arms, legs=(legs[0], legs[1]),
    )  # fmt: skip


def walking(phase: float, stride: float = 1.0, carry: int = 0) -> Pose:
    """A step of the gait; ``phase`` in radians, two steps a turn. ``carry`` 1: the right hand holds something."""
    swing = 0.42 * stride * math.sin(phase)
    legs = []
    arms = []
    for sign in (1.0, -1.0):
        s = sign * swing
        # the knee bends while the leg comes forward
        lift = max(0.0, math.cos(phase) * sign) * 0.75 * stride + 0.08
        angle = -s
        thigh = (0.05, -math.cos(angle), -math.sin(angle) + 0.25 * max(0.0, math.cos(phase) * sign) * stride)
        knee = math.atan2(thigh[2], -thigh[1]) - lift
        legs.append((thigh, (0.03, -math.cos(knee), math.sin(knee))))
        a = -s * 0.8
        upper = (0.16, -math.cos(a), math.sin(a))
        b = a + 0.3 + 0.15 * math.sin(phase) * sign
        arms.append((upper, (0.05, -math.cos(b), math.sin(b))))
    if carry:
        arms[1] = ((0.25, -0.95, 0.15), (-0.45, -0.1, 0.8))
    return Pose(
        lean=0.06, sway=0.02 * math.sin(phase), turn=-0.12 * math.sin(phase) * stride, head_pitch=0.05,
        arms=(arms[0], arms[1]), legs=(legs[0], legs[1]),
    )  # fmt: skip


def random_walking(rng: Generator) -> Pose:
    """Somewhere in a step, with a random length of stride."""
    pose = walking(float(rng.uniform(0, 2 * math.pi)), float(rng.uniform(0.6, 1.2)), int(rng.random() < 0.25))
    return replace(pose, head_yaw=float(rng.normal(0, 0.3)), head_pitch=float(rng.normal(0.08, 0.2)))
