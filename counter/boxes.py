"""Boxes as arrays: overlap, the edge of the picture, and what of a detector's output is one person.

Corner boxes are ``[n, 4]``: x1, y1, x2, y2 in pixels. All is quickest where each coordinate lies together in memory
(order F).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from counter.types import Detections

Array = NDArray[np.float64]

EDGE = 0.02  # how near the edge of the picture a box touches it, as a share of the longer side
MAX_DETECTIONS = 1000  # the best of more: pairs are compared, and memory is bounded


def iou(a: Array, b: Array) -> Array:
    """``[n, m]`` intersection over union of corner boxes ``[n, 4]`` and ``[m, 4]``."""
    inter = intersection(a, b)
    return inter / np.maximum(area(a)[:, None] + area(b) - inter, 1e-9)


def intersection(a: Array, b: Array) -> Array:
    """``[n, m]`` shared area of corner boxes. Quickest where each coordinate lies together in memory (order F)."""
    p, q = a.T[:, :, None], b.T[:, None, :]
    side = np.minimum(p[2:], q[2:])
    side -= np.maximum(p[:2], q[:2])
    np.maximum(side, 0.0, out=side)
    shared: Array = side[0] * side[1]
    return shared


def area(boxes: Array) -> Array:
    """``[n]`` areas of corner boxes."""
    side = boxes.T[2:] - boxes.T[:2]
    areas: Array = side[0] * side[1]
    return areas


def usable(detections: Detections) -> tuple[Array, Array]:
    """Boxes ``[n, 4]`` (each coordinate together in memory) and scores in float64, without those that are no boxes.

    A score that is no number is below every threshold.
    """
    boxes = detections.boxes.T.astype(np.float64, order="C").T
    scores = detections.scores.astype(np.float64)
    if not math.isfinite(boxes.sum()):
        finite = np.isfinite(boxes).all(axis=1)
        boxes, scores = boxes[finite], scores[finite]
    np.maximum(boxes[:, 2:], boxes[:, :2], out=boxes[:, 2:])
    return boxes, scores


def without_parts(boxes: Array, scores: Array, floor: float) -> tuple[Array, Array]:
    """Detections from ``floor`` on, best first, without second boxes of one person: the seen part and the whole.

    Non-maximum suppression keeps both, as they overlap little. They share the head: one box lies in the other, with the
    same upper edge and about the same width. The better score stays.
    """
    order = (-scores).argsort(kind="stable")
    s = scores[order]
    n = min(int(np.count_nonzero(s >= floor)), MAX_DETECTIONS)
    b, s = boxes.T.take(order[:n], axis=1).T, s[:n]
    if n < 2:
        return b, s
    areas = 0.85 * area(b)
    inside = intersection(b, b) > np.minimum(areas[:, None], areas)
    if np.count_nonzero(inside) <= n:  # nobody but with themselves
        return b, s
    # Few pairs are left: plain numbers are quicker than arrays.
    x1, y1, x2, y2 = b.T.tolist()
    dropped: set[int] = set()
    for i, j in zip(*(index.tolist() for index in inside.nonzero()), strict=True):
        if i >= j or i in dropped:
            continue
        wide, narrow = sorted((x2[i] - x1[i], x2[j] - x1[j]), reverse=True)
        lower = max(min(y2[i] - y1[i], y2[j] - y1[j]), 1e-6)
        if abs(y1[i] - y1[j]) < 0.15 * lower and narrow > 0.65 * wide:
            dropped.add(j)
    if not dropped:
        return b, s
    keep = [i for i in range(n) if i not in dropped]
    return b.T[:, keep].T, s[keep]


def at_edge(boxes: Array, frame: tuple[int, int]) -> NDArray[np.bool_]:
    """``[n, 4]``: whether each box touches the left, upper, right and lower edge of the picture."""
    slack = EDGE * max(frame)
    touches = np.empty((4, len(boxes)), bool)
    np.less_equal(boxes.T[:2], slack, out=touches[:2])
    np.greater_equal(boxes.T[2:], np.array(((frame[0] - slack,), (frame[1] - slack,))), out=touches[2:])
    return touches.T


def uncut(boxes: Array, size: Array, frame: tuple[int, int]) -> Array:
    """Boxes cut off by the edge of the picture, restored to the ``size`` ``[n, 2]`` the people had before.

    The visible part of somebody who leaves the picture shrinks, and its centre slows down and stops short of any line
    near the edge; the person does neither.
    """
    start, end = boxes.T[:2], boxes.T[2:]
    low, high = at_edge(boxes, frame).T.reshape(2, 2, -1)
    cut = low ^ high
    if not cut.any():
        return boxes
    missing = np.maximum(size.T - (end - start), 0.0) * cut
    return np.concatenate((start - missing * low, end + missing * high)).T


def clipped(boxes: Array, frame: tuple[int, int]) -> Array:
    """The part of the boxes that lies in the picture; what lies outside becomes a sliver on its edge."""
    width, height = frame
    inside: Array = np.maximum(boxes.T, 0.0)
    np.minimum(inside, np.array(((width,), (height,), (width,), (height,)), np.float64), out=inside)
    return inside.T
