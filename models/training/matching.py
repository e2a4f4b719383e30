"""Detections against truth: recall, precision and average precision, by overlap and by the top-centre point."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]


def letterbox(image: U8, size: tuple[int, int], fill: int = 114) -> tuple[U8, float, float, float]:
    """Fit into ``size`` (width, height), centred: picture, scale, left and top margin in pixels."""
    height, width = image.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    w, h = round(width * scale), round(height * scale)
    left, top = (size[0] - w) // 2, (size[1] - h) // 2
    out = np.full((size[1], size[0], 3), fill, np.uint8)
    out[top : top + h, left : left + w] = cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR)
    return out, scale, float(left), float(top)


def iou_table(a: F32, b: F32) -> F32:
    """IoU of ``[N, 4]`` and ``[M, 4]``."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    inter = np.maximum(high - low, 0).prod(-1)
    area = [np.maximum(x[:, 2:4] - x[:, :2], 0).prod(-1) for x in (a, b)]
    return np.asarray(inter / (area[0][:, None] + area[1][None] - inter + 1e-6), np.float32)


def nms(found: F32, overlap: float = 0.6) -> F32:
    """Greedy suppression of ``[N, 5]`` boxes with scores; surest first."""
    found = found[np.argsort(-found[:, 4], kind="stable")]
    keep: list[int] = []
    table = iou_table(found[:, :4], found[:, :4])
    dead = np.zeros(len(found), bool)
    for k in range(len(found)):
        if not dead[k]:
            keep.append(k)
            dead |= table[k] > overlap
    return found[keep]


class Matcher:
    """Collects detections and truth over pictures; a detection finds a person by IoU 0.5 or by the top-centre point.

    The point matches within 0.3 of the true box's shorter side plus 4 pixels.
    """

    def __init__(self) -> None:
        self.records: dict[str, list[tuple[float, bool]]] = {"iou": [], "top": []}
        self.people = 0
        self.pictures = 0

    def add(self, found: F32, truth: F32, ignore: F32 | None = None, suppress: bool = True) -> None:
        """One picture: detections ``[N, 5]``, people ``[M, 4]``, boxes in which anything goes ``[K, 4]``."""
        self.pictures += 1
        self.people += len(truth)
        found = nms(found) if suppress else found[np.argsort(-found[:, 4], kind="stable")]
        table = iou_table(found[:, :4], truth) if len(truth) else np.zeros((len(found), 0), np.float32)
        for rule in self.records:
            taken = np.zeros(len(truth), bool)
            for k, box in enumerate(found):
                best = -1
                if len(truth):
                    if rule == "iou":
                        value = np.where(taken, -1, table[k])
                        best = int(value.argmax()) if value.max() >= 0.5 else -1
                    else:
                        reach = 0.3 * np.minimum(truth[:, 2] - truth[:, 0], truth[:, 3] - truth[:, 1]) + 4
                        off = np.hypot((box[0] + box[2] - truth[:, 0] - truth[:, 2]) / 2, box[1] - truth[:, 1])
                        value = np.where(taken | (off > reach), np.inf, off)
                        best = int(value.argmin()) if np.isfinite(value.min()) else -1
                if best >= 0:
                    taken[best] = True
                elif ignore is not None and len(ignore) and _covered(box, ignore):
                    continue
                self.records[rule].append((float(box[4]), best >= 0))

    def recall(self, rule: str, threshold: float) -> float:
        hits = sum(ok for score, ok in self.records[rule] if score >= threshold)
        return hits / max(self.people, 1)

    def precision(self, rule: str, threshold: float) -> float:
        chosen = [ok for score, ok in self.records[rule] if score >= threshold]
        return sum(chosen) / max(len(chosen), 1)

    def ap(self, rule: str) -> float:
        """Average precision, all points."""
        order = sorted(self.records[rule], key=lambda r: -r[0])
        hits = np.cumsum([ok for _, ok in order]) if order else np.zeros(0)
        precision = hits / np.arange(1, len(order) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        gains = np.array([ok for _, ok in order], bool)
        return float(envelope[gains].sum() / max(self.people, 1))

    def summary(self) -> dict[str, float]:
        return {
            "ap50": round(self.ap("iou"), 4),
            "ap_top": round(self.ap("top"), 4),
            "people": self.people,
            "pictures": self.pictures,
        }


def _covered(box: F32, ignore: F32) -> bool:
    low, high = np.maximum(box[:2], ignore[:, :2]), np.minimum(box[2:4], ignore[:, 2:])
    inter = np.maximum(high - low, 0).prod(-1)
    return bool((inter / max((box[2] - box[0]) * (box[3] - box[1]), 1e-6)).max() > 0.5)
