"""The viewpoints on which a detector is judged. Those marked *measure* are never trained on and never shown.

Every viewpoint takes ``find``: a function from a frame ``[H, W, 3]`` BGR to people ``[N, 6]`` (x1 y1 x2 y2, score,
class).
"""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree  # our own measuring data, not input of users
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .data.shards import Shards
from .matching import Matcher

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
Find = Callable[[U8], F32]

EMPTY_ALARMS = 0.05
VIEW, VIEW_TOP, VIEW_STEP = (416, 256), 212, 320


@dataclass(frozen=True)
class Rate:
    """A share with its 95 % interval (Wilson's score interval)."""

    hits: int
    total: int

    @property
    def value(self) -> float:
        return self.hits / self.total if self.total else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        if not self.total:
            return (float("nan"), float("nan"))
        z, n, p = 1.96, self.total, self.value
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return (max(0.0, middle - half), min(1.0, middle + half))

    def as_dict(self) -> dict[str, Any]:
        low, high = self.interval
        return {"value": round(self.value, 4), "low": round(low, 4), "high": round(high, 4), "of": self.total}


def frames(path: Path) -> Iterator[U8]:
    """Frames of a clip."""
    video = cv2.VideoCapture(str(path))
    if not video.isOpened():
        raise ValueError(f"{path}: cannot be opened as a video")
    while True:
        ok, image = video.read()
        if not ok:
            return
        yield np.asarray(image, np.uint8)


def panoramas(folder: Path, step: int = 1) -> Iterator[tuple[U8, F32]]:
    """*Measure.* Every ``step``-th panorama of the table camera and the people in it."""
    for file in sorted((folder / "Annotations").glob("*.xml"))[::step]:
        root = ElementTree.parse(file).getroot()  # noqa: S314 - see above
        people = []
        for thing in root.iter("object"):
            if (thing.findtext("name") or "") == "person":
                box = thing.find("bndbox")
                assert box is not None
                people.append([float(box.findtext(k) or 0) for k in ("xmin", "ymin", "xmax", "ymax")])
        name = root.findtext("filename") or ""
        for candidate in (folder / "JPEGImages" / name, folder / "JPEGImages" / f"{file.stem}.jpg"):
            if candidate.is_file() and (image := cv2.imread(str(candidate))) is not None:
                yield np.asarray(image, np.uint8), np.array(people, np.float32).reshape(-1, 4)
                break


def linto_views(folder: Path, step: int = 1) -> Iterator[tuple[U8, F32, F32]]:
    """*Measure.* Four overlapping views of 416x256 out of each panorama: picture, people, people cut too far."""
    for image, people in panoramas(folder, step):
        width = image.shape[1]
        wide = np.concatenate([image, image[:, : VIEW[0]]], 1)
        truth = np.concatenate([people, people + np.array([width, 0, width, 0], np.float32)])
        for x0 in range(0, width, VIEW_STEP):
            moved = truth - np.array([x0, VIEW_TOP, x0, VIEW_TOP], np.float32)
            cut = moved.copy()
            cut[:, [0, 2]] = cut[:, [0, 2]].clip(0, VIEW[0])
            cut[:, [1, 3]] = cut[:, [1, 3]].clip(0, VIEW[1])
            side = np.maximum(cut[:, 2:] - cut[:, :2], 0)
            left = side.prod(1) / np.maximum((moved[:, 2:] - moved[:, :2]).prod(1), 1e-6)
            view = np.ascontiguousarray(wide[VIEW_TOP : VIEW_TOP + VIEW[1], x0 : x0 + VIEW[0]])
            yield view, cut[left >= 0.5], cut[(left > 0.02) & (left < 0.5)]


def linto(find: Find, folder: Path, step: int = 1) -> Matcher:
    matcher = Matcher()
    for view, people, ignore in linto_views(folder, step):
        matcher.add(find(view)[:, :5], people, ignore, suppress=False)
    return matcher


def linto_whole(find: Find, folder: Path, step: int = 1) -> Matcher:
    """*Measure.* The panoramas as they are: what a model's room mode sees of a meeting."""
    matcher = Matcher()
    for image, people in panoramas(folder, step):
        matcher.add(find(image)[:, :5], people, np.zeros((0, 4), np.float32), suppress=False)
    return matcher


def surest(found: F32) -> float:
    """The best score of what was found (0: nothing)."""
    return float(found[:, 4].max()) if len(found) else 0.0


def empty_scores(find: Find, folder: Path, step: int = 1) -> list[float]:
    """*Measure.* The surest false alarm of every picture without people (0: none)."""
    scores = []
    for file in sorted(p for p in folder.iterdir() if p.suffix.lower() in {".jpg", ".jpeg", ".png"})[::step]:
        image = cv2.imread(str(file))
        if image is not None:
            scores.append(surest(find(np.asarray(image, np.uint8))))
    return scores


def alarm_threshold(scores: list[float], share: float = EMPTY_ALARMS) -> float:
    """The lowest threshold at which no more than this share of the empty pictures raises an alarm."""
    order = sorted(scores, reverse=True)
    allowed = int(share * len(order))
    return float(np.nextafter(order[allowed], 2)) if allowed < len(order) else 0.0


def counts(find: Find, path: Path, threshold: float, step: int = 1) -> list[int]:
    """People found in every ``step``-th frame."""
    return [int((find(image)[:, 4] >= threshold).sum()) for k, image in enumerate(frames(path)) if k % step == 0]


def expected(truth: dict[str, Any], frame: int) -> int:
    return next((n for a, b, n in truth["present"] if a <= frame <= b), 0)


def one_by_one(find: Find, data: Path, threshold: float, step: int = 4) -> tuple[Rate, Rate]:
    """*Test.* Frames whose number of people is right, and frames in which presence (somebody or nobody) is right.

    Two frames around each change are passed over: the truth is that exact and no more.
    """
    truth = json.loads((data / "truth.json").read_text(encoding="utf-8"))["one-by-one-person-detection.mp4"]
    edges = {f for a, b, _ in truth["present"] for f in (*range(a - 2, a + 3), *range(b - 2, b + 3))}
    found = counts(find, data / "footage" / "one-by-one-person-detection.mp4", threshold, step)
    pairs = [(n, expected(truth, k * step)) for k, n in enumerate(found) if k * step not in edges]
    return Rate(sum(n == e for n, e in pairs), len(pairs)), Rate(sum((n > 0) == (e > 0) for n, e in pairs), len(pairs))


def wisenet(find: Find, data: Path, threshold: float, step: int = 4) -> Rate:
    """*Measure.* Presence in a corridor; frames 330 to 352 (at the door) and 402 to 412 (leaving) are passed over."""
    found = counts(find, data / "benchmark" / "wisenet_video1_cam_3.avi", threshold, step)
    right = total = 0
    for k, n in enumerate(found):
        frame = k * step
        if frame < 4 or 330 <= frame <= 352 or 402 <= frame <= 412:
            continue
        total += 1
        right += (n > 0) == (352 < frame < 402)
    return Rate(right, total)


def classroom(find: Find, data: Path, threshold: float) -> tuple[float, float]:
    """*Test.* Mean count (truth 4) and mean absolute error."""
    found = np.array(counts(find, data / "footage" / "classroom.gif", threshold))
    return float(found.mean()), float(np.abs(found - 4).mean())


def held_out(find: Find, shards: Shards, count: int) -> dict[str, Matcher]:
    """Renderings of another seed, by kind of scene and ``all``."""
    matchers: dict[str, Matcher] = {"all": Matcher()}
    for k in range(min(count, len(shards))):
        sample = shards[k]
        labels = sample.labels
        good = (labels[:, 9] >= 0.25) & ((labels[:, 3:5] - labels[:, 1:3]).min(1) >= 8)
        found = find(sample.image)[:, :5]
        for name in ("all", sample.kind.split("-")[0]):
            matchers.setdefault(name, Matcher()).add(found, labels[good, 1:5], labels[~good, 1:5], suppress=False)
    return matchers


def best_f1(matcher: Matcher, rule: str = "top") -> float:
    """The threshold with the best F1 on these pictures: how the one threshold is fixed, away from the test."""
    best, at = -1.0, 0.5
    for threshold in np.arange(0.1, 0.95, 0.01):
        r, p = matcher.recall(rule, threshold), matcher.precision(rule, threshold)
        f1 = 2 * r * p / max(r + p, 1e-9)
        if f1 > best:
            best, at = f1, float(threshold)
    return round(at, 2)
