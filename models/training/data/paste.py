"""Real people in other rooms: cut out of the open clips and set into pictures where nobody is.

Cutting uses GrabCut (Rother et al., 2004) inside the teacher's boxes. Pieces of empty rooms are pasted with
the same outlines, so that an outline alone does not make a person.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from .shards import COLUMNS, Sample, Shards

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Cutout:
    """One person: ``colour`` ``[h, w, 3]`` BGR, ``alpha`` ``[h, w]`` 0 to 1; whether it is cut at the bottom edge."""

    colour: U8
    alpha: F32
    stands: bool


def cut_out(image: U8, box: F32) -> Cutout | None:
    """A person inside ``box`` (x1 y1 x2 y2), or None where no plausible outline is found."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = (int(v) for v in np.clip(np.round(box), 0, [width, height, width, height]))
    if x1 - x0 < 24 or y1 - y0 < 40:
        return None
    margin = max(8, (x1 - x0) // 4)
    ax, ay, bx, by = max(x0 - margin, 0), max(y0 - margin, 0), min(x1 + margin, width), min(y1 + margin, height)
    piece = np.ascontiguousarray(cv2.medianBlur(image[ay:by, ax:bx], 3))
    mask = np.full(piece.shape[:2], cv2.GC_BGD, np.uint8)
    mask[y0 - ay : y1 - ay, x0 - ax : x1 - ax] = cv2.GC_PR_FGD
    w, h = x1 - x0, y1 - y0
    mask[y0 - ay + h // 6 : y1 - ay - h // 4, x0 - ax + int(w * 0.4) : x1 - ax - int(w * 0.4)] = cv2.GC_FGD
    cv2.setRNGSeed(1)
    cv2.grabCut(piece, mask, None, np.zeros((1, 65)), np.zeros((1, 65)), 3, cv2.GC_INIT_WITH_MASK)
    found = ((mask == cv2.GC_FGD) | (mask == cv2.GC_PR_FGD)).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(found)
    if count < 2:
        return None
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    found = cv2.morphologyEx((labels == largest).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8))
    (left, top, fw, fh), area = cv2.boundingRect(found), int(found.sum())
    if not 0.3 < area / (w * h) < 0.92 or fh < 0.75 * h or fw < 0.55 * w:
        return None
    alpha = cv2.GaussianBlur(found.astype(np.float32), (0, 0), 0.9)
    window = np.s_[top : top + fh, left : left + fw]
    return Cutout(np.ascontiguousarray(piece[window]), np.ascontiguousarray(alpha[window]), y1 < height - 3)


def cutouts(real: Shards, step: int = 3) -> list[Cutout]:
    """People of every ``step``-th labelled frame."""
    found = []
    for k in range(0, len(real), step):
        sample = real[k]
        for row in sample.labels[sample.labels[:, 9] >= 0.5]:
            cut = cut_out(sample.image, row[1:5])
            if cut is not None:
                found.append(cut)
    return found


def _paste(image: U8, colour: U8, alpha: F32, x: int, y: int) -> tuple[int, int, int, int] | None:
    height, width = image.shape[:2]
    h, w = alpha.shape
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    if x1 - x0 < 6 or y1 - y0 < 10:
        return None
    source = np.s_[y0 - y : y1 - y, x0 - x : x1 - x]
    a = alpha[source][..., None]
    region = image[y0:y1, x0:x1]
    region[:] = (colour[source] * a + region * (1 - a)).astype(np.uint8)
    return x0, y0, x1, y1


def _lit_like(colour: U8, target: U8, rng: Generator) -> U8:
    """Brightness and tint moved towards those of the place."""
    mine, its = colour.reshape(-1, 3).mean(0), target.reshape(-1, 3).mean(0)
    gain = (np.clip(its / np.maximum(mine, 1), 0.4, 2.0) ** rng.uniform(0.2, 0.7)) * rng.uniform(0.85, 1.15)
    return np.clip(colour * gain, 0, 255).astype(np.uint8)


def _hide(person: list[float], box: F32, front: F32) -> None:
    """Take from a person's visible share what lies behind ``front``."""
    w = min(front[2], box[2]) - max(front[0], box[0])
    h = min(front[3], box[3]) - max(front[1], box[1])
    if person and w > 0 and h > 0:
        person[9] -= float(w * h / max((box[2] - box[0]) * (box[3] - box[1]), 1))


def _sit_at_table(
    image: U8, colour: U8, alpha: F32, x: int, y: int, rooms: list[U8], rng: Generator
) -> tuple[U8, F32, int, tuple[int, int, int, int, U8]]:
    """Keep the upper part of a person (with its left edge), and a table top (x0 y0 x1 y1, look) that hides the rest."""
    keep = max(12, round(alpha.shape[0] * rng.uniform(0.28, 0.7)))
    columns = np.flatnonzero(alpha[:keep].max(0) > 0.4)
    left, right = (int(columns[0]), int(columns[-1]) + 1) if len(columns) else (0, alpha.shape[1])
    colour, alpha, x = colour[:keep, left:right], alpha[:keep, left:right], x + left
    height, width = image.shape[:2]
    w = alpha.shape[1]
    x0, x1 = round(x - w * rng.uniform(0.1, 2.0)), round(x + w * rng.uniform(1.1, 3.0))
    y0 = y + keep - round(keep * rng.uniform(0.0, 0.08))
    y1 = y0 + max(4, round(keep * rng.uniform(0.15, 0.9)))
    other = rooms[int(rng.integers(len(rooms)))]
    row, column = int(rng.integers(height // 2, height - 16)), int(rng.integers(0, width // 2))
    look = other[row : row + 16, column : column + width // 2].astype(np.float32)
    if rng.random() < 0.6:  # one colour, hardly any grain
        look = look.mean((0, 1)) + (look - look.mean((0, 1))) * 0.15
    look = np.clip(look * rng.uniform(0.6, 1.6), 0, 255).astype(np.uint8)
    return colour, alpha, x, (x0, y0, x1, y1, look)


def _draw_table(image: U8, x0: int, y0: int, x1: int, y1: int, look: U8, rng: Generator) -> None:
    """A board seen from a little above: a trapezium, a darker edge at its front."""
    height, width = image.shape[:2]
    lean = round((y1 - y0) * rng.uniform(-0.4, 1.2))
    corners = np.array([[x0 + lean, y0], [x1 - lean, y0], [x1, y1], [x0, y1]], np.int32)
    mask = cv2.fillConvexPoly(np.zeros((height, width), np.uint8), corners, 255, cv2.LINE_AA)
    edge = cv2.fillConvexPoly(
        np.zeros((height, width), np.uint8),
        np.array([[x0, y1], [x1, y1], [x1, y1 + 4], [x0, y1 + 4]], np.int32), 255, cv2.LINE_AA,
    )  # fmt: skip
    board = cv2.resize(look, (width, height), interpolation=cv2.INTER_LINEAR)
    for shape, light in ((mask, 1.0), (edge, rng.uniform(0.3, 0.8))):
        a = (shape.astype(np.float32) / 255)[..., None]
        image[:] = (board * light * a + image * (1 - a)).astype(np.uint8)


def pasted(cuts: list[Cutout], rooms: list[U8], count: int, seed: int) -> Iterator[Sample]:
    """Pictures of empty rooms with up to five cut-out people or pieces of room with their outlines.

    Some sit: a table hides all but their upper part. Tables without anybody are there as well.
    """
    rng = np.random.default_rng([seed, 43])
    for _ in range(count):
        image = rooms[int(rng.integers(len(rooms)))].copy()
        height, width = image.shape[:2]
        people: list[list[float]] = []
        covered: list[F32] = []
        horizon, near = height * rng.uniform(0.0, 0.35), rng.uniform(0.5, 1.3)
        places = sorted(rng.uniform(0.15, 1.0, int(rng.integers(1, 6))))
        for depth in places:
            cut = cuts[int(rng.integers(len(cuts)))]
            tall = max(28.0, height * near * depth)
            factor = tall / cut.alpha.shape[0]
            size = (max(8, round(cut.alpha.shape[1] * factor)), round(tall))
            method = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
            colour, alpha = (
                cv2.resize(cut.colour, size, interpolation=method),
                cv2.resize(cut.alpha, size, interpolation=method),
            )
            if rng.random() < 0.5:
                colour, alpha = colour[:, ::-1], alpha[:, ::-1]
            x = int(rng.uniform(-0.3 * size[0], width - 0.7 * size[0]))
            foot = horizon + (height - horizon) * depth * rng.uniform(0.8, 1.15)
            y = (
                round(foot - tall)
                if cut.stands
                else max(round(height - tall * rng.uniform(0.6, 1.0)), round(foot - tall))
            )
            distractor = rng.random() < 0.35
            if distractor:  # the same outline, filled with a piece of another room
                other = rooms[int(rng.integers(len(rooms)))]
                colour = cv2.resize(other[: height // 2, : width // 3], size)
            else:
                colour = _lit_like(np.asarray(colour, np.uint8), image, rng)
            colour, alpha = np.asarray(colour, np.uint8), np.asarray(alpha, np.float32)
            table = None
            if rng.random() < 0.5 and size[1] > 40:
                y = min(y, round(height * rng.uniform(0.1, 0.8)))
                colour, alpha, x, table = _sit_at_table(image, colour, alpha, x, y, rooms, rng)
            whole = (alpha.shape[1], alpha.shape[0])
            box = None if table and rng.random() < 0.2 else _paste(image, colour, alpha, x, y)
            if table is not None:
                _draw_table(image, *table, rng)
                covered.append(np.array([table[0], table[1], table[2], table[3]], np.float32))
                people.append([])
                for k, old in enumerate(covered[:-1]):
                    _hide(people[k], old, covered[-1])
            if box is None:
                continue
            if table is not None:
                box = (box[0], box[1], box[2], min(box[3], table[1]))
            for k, old in enumerate(covered):  # who stands in front hides who stands behind
                if table is None or k < len(covered) - 1:
                    _hide(people[k], old, np.array(box, np.float32))
            if not distractor:
                row = np.zeros(len(COLUMNS), np.float32)
                row[1:5] = box
                row[9] = (box[2] - box[0]) * (box[3] - box[1]) / (whole[0] * whole[1])
                row[10], row[11] = row[9], (box[2] - box[0]) * (box[3] - box[1]) * 0.6
                people.append([float(v) for v in row])
                covered.append(np.array(box, np.float32))
        rows = [row for row in people if row]  # tables have none
        yield Sample(image, np.array(rows, np.float32).reshape(-1, len(COLUMNS)), "pasted")
