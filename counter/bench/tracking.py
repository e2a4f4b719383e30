"""HOTA, IDF1 and MOTA of tracks against true tracks.

IDF1 and MOTA come from ``py-motmetrics``. Its releases hold no HOTA, so HOTA is computed here after its definition:
Luiten et al., "HOTA: A Higher Order Metric for Evaluating Multi-Object Tracking", IJCV 2021 (arXiv 2009.07736),
equations 2, 5 and 7, with the matching of appendix A. A test holds it against the ``trackers`` package.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

Boxes = NDArray[np.float64]
Ids = NDArray[np.int64]
FrameTracks = tuple[Ids, Boxes]
"""Ids ``[N]`` and boxes ``[N, 4]`` (x1, y1, x2, y2 in pixels) of one frame."""

ALPHAS = np.arange(0.05, 0.99, 0.05)
MATCH_IOU = 0.5


@dataclass(frozen=True, slots=True)
class TrackingScores:
    """All are shares; MOTA can fall below 0.

    Attributes:
        hota: geometric mean of detection and association accuracy, over IoU thresholds from 0.05 to 0.95.
        deta, assa: its two parts, averaged over the same thresholds.
        idf1: F1 of identities kept.
        mota: 1 - (misses + false alarms + switches) / true boxes.
        switches: how often a person got another id.
    """

    hota: float
    deta: float
    assa: float
    idf1: float
    mota: float
    switches: int


def iou(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """Intersection over union of ``[N, 4]`` and ``[M, 4]`` boxes as ``[N, M]``."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = np.prod(np.clip(high - low, 0, None), axis=2)
    area_a, area_b = (np.prod(np.clip(x[:, 2:] - x[:, :2], 0, None), axis=1) for x in (a, b))
    union = area_a[:, None] + area_b[None] - inter
    share: NDArray[np.float64] = np.divide(inter, union, out=np.zeros_like(inter), where=union > 0)
    return share


def hota(true: Sequence[FrameTracks], found: Sequence[FrameTracks]) -> tuple[float, float, float]:
    """HOTA, DetA and AssA.

    Args:
        true: the true tracks, one entry per frame.
        found: the tracks of the system, one entry per frame.
    """
    true_index = {k: i for i, k in enumerate(sorted({int(k) for ids, _ in true for k in ids}))}
    found_index = {k: i for i, k in enumerate(sorted({int(k) for ids, _ in found for k in ids}))}
    if not true_index or not found_index:
        both_empty = not true_index and not found_index
        return (1.0, 1.0, 1.0) if both_empty else (0.0, 0.0, 0.0)
    frames = []
    together = np.zeros((len(true_index), len(found_index)))
    true_length, found_length = np.zeros((len(true_index), 1)), np.zeros((1, len(found_index)))
    for (ids, boxes), (other_ids, other_boxes) in zip(true, found, strict=True):
        rows = np.array([true_index[int(k)] for k in ids], np.intp)
        columns = np.array([found_index[int(k)] for k in other_ids], np.intp)
        overlap = iou(boxes, other_boxes)
        true_length[rows, 0] += 1
        found_length[0, columns] += 1
        if rows.size and columns.size:
            # How much of each candidate pair's attention goes to this pair: soft co-occurrence over the whole clip.
            spread = overlap.sum(0, keepdims=True) + overlap.sum(1, keepdims=True) - overlap
            together[np.ix_(rows, columns)] += np.divide(overlap, spread, out=np.zeros_like(overlap), where=spread > 0)
            frames.append((rows, columns, overlap))
    alignment = together / (true_length + found_length - together)
    deta, assa = np.zeros(len(ALPHAS)), np.zeros(len(ALPHAS))
    counts = np.zeros((len(ALPHAS), *together.shape))
    for rows, columns, overlap in frames:
        # The tracks that belong together over the clip come first, the overlap in the frame second.
        chosen = linear_sum_assignment(alignment[np.ix_(rows, columns)] * overlap, maximize=True)
        for a, alpha in enumerate(ALPHAS):
            good = overlap[chosen] >= alpha - np.finfo(float).eps
            counts[a, rows[chosen[0][good]], columns[chosen[1][good]]] += 1
    for a in range(len(ALPHAS)):
        hits = counts[a].sum()
        deta[a] = hits / (true_length.sum() + found_length.sum() - hits)
        share = counts[a] / np.maximum(1, true_length + found_length - counts[a])
        assa[a] = (counts[a] * share).sum() / max(1, hits)
    return float(np.sqrt(deta * assa).mean()), float(deta.mean()), float(assa.mean())


def track_scores(true: Sequence[FrameTracks], found: Sequence[FrameTracks]) -> TrackingScores:
    """All tracking scores of one clip. A match for MOTA and IDF1 overlaps by an IoU of 0.5 or more.

    Raises:
        ValueError: the two differ in their number of frames.
    """
    import motmetrics

    if len(true) != len(found):
        raise ValueError(f"{len(true)} frames of truth and {len(found)} frames of tracks")
    accumulator = motmetrics.MOTAccumulator(auto_id=True)
    for (ids, boxes), (other_ids, other_boxes) in zip(true, found, strict=True):
        distance = 1.0 - iou(boxes, other_boxes)
        distance[distance > 1.0 - MATCH_IOU] = np.nan
        accumulator.update(ids.tolist(), other_ids.tolist(), distance)
    table = motmetrics.metrics.create().compute(accumulator, metrics=["mota", "idf1", "num_switches"], name="clip")
    row = table.loc["clip"]
    return TrackingScores(*hota(true, found), float(row["idf1"]), float(row["mota"]), int(row["num_switches"]))
