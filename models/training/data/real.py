"""Real open footage: the CC BY clips that may be trained on, labelled by an Apache-2.0 teacher.

RTMDet-nano (person) looks at every frame at two sizes; the merged boxes above ``ACCEPT`` are people, those between
``DOUBT`` and ``ACCEPT`` are left out of the loss. The clips of the test (one-by-one, classroom) are never read here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from .shards import COLUMNS, Sample

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

TRAIN_CLIPS = (
    "people-detection.gif",
    "store-aisle-detection.gif",
    "worker-zone-detection.gif",
    "face-demographics-walking.gif",
    "face-demographics-walking-and-pause.gif",
)
ACCEPT, DOUBT = 0.42, 0.28
_MEAN, _STD = np.array([103.53, 116.28, 123.675], np.float32), np.array([57.375, 57.12, 58.395], np.float32)


def frames(path: Path) -> Iterator[U8]:
    """Frames ``[H, W, 3]`` BGR of a clip."""
    video = cv2.VideoCapture(str(path))
    if not video.isOpened():
        raise ValueError(f"{path}: cannot be opened as a video")
    while True:
        ok, image = video.read()
        if not ok:
            return
        yield image


class Teacher:
    """RTMDet-nano person at several sizes, merged."""

    def __init__(self, model: Path, long_sides: tuple[int, ...] = (640, 960), threads: int = 1) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self.long_sides = long_sides

    def __call__(self, image: U8) -> F32:
        """People ``[N, 5]``: box and score."""
        found = [self._one(image, side) for side in self.long_sides]
        return merge(np.concatenate(found))

    def _one(self, image: U8, long_side: int) -> F32:
        height, width = image.shape[:2]
        scale = long_side / max(height, width)
        size = (round(width * scale), round(height * scale))
        x = (cv2.resize(image, size).astype(np.float32) - _MEAN) / _STD
        padded = np.zeros((-(-size[1] // 32) * 32, -(-size[0] // 32) * 32, 3), np.float32)
        padded[: size[1], : size[0]] = x
        output = self.session.run(None, {self.session.get_inputs()[0].name: padded.transpose(2, 0, 1)[None]})
        found = np.asarray(output[0][0], np.float32)
        found = found[found[:, 4] > DOUBT]
        found[:, :4] /= scale
        return found


def merge(found: F32, overlap: float = 0.55, inside: float = 0.85) -> F32:
    """Boxes of several looks at one picture: of those that overlap or lie in each other, the surest stays."""
    kept: list[NDArray[np.float32]] = []
    for box in found[np.argsort(-found[:, 4])]:
        for other in kept:
            w = min(box[2], other[2]) - max(box[0], other[0])
            h = min(box[3], other[3]) - max(box[1], other[1])
            if w > 0 and h > 0:
                mine, its = (box[2] - box[0]) * (box[3] - box[1]), (other[2] - other[0]) * (other[3] - other[1])
                if w * h / (mine + its - w * h) > overlap or w * h / min(mine, its) > inside:
                    break
        else:
            kept.append(box)
    return np.stack(kept) if kept else np.zeros((0, 5), np.float32)


def pseudo_labelled(folder: Path, teacher: Teacher) -> Iterator[Sample]:
    """Every frame of the training clips with the labels of the teacher."""
    for name in TRAIN_CLIPS:
        clip = list(frames(folder / name))
        for image in clip:
            found = teacher(image)
            labels = np.zeros((len(found), len(COLUMNS)), np.float32)
            labels[:, 0] = np.arange(len(found))
            labels[:, 1:5] = found[:, :4]
            # a sure label counts as fully visible, a doubtful one is below every threshold and so left out
            labels[:, 9] = np.where(found[:, 4] >= ACCEPT, 1.0, 0.05)
            labels[:, 10] = 1.0
            yield Sample(image, labels, f"real-{Path(name).stem}")


def empty_views(panoramas: list[F32], count: int, seed: int, size: tuple[int, int] = (512, 320)) -> Iterator[Sample]:
    """Views into the photographed interiors (linear RGB panoramas) in which nobody is: real rooms to say no to."""
    rng = np.random.default_rng([seed, 41])
    width, height = size
    u, v = np.meshgrid(np.arange(width) - width / 2 + 0.5, np.arange(height) - height / 2 + 0.5)
    for k in range(count):
        source = panoramas[k % len(panoramas)]
        focal = width / 2 / np.tan(np.radians(rng.uniform(38, 105)) / 2)
        yaw, pitch, roll = rng.uniform(0, 2 * np.pi), rng.normal(0.08, 0.3), rng.normal(0, 0.06)
        x, y = np.cos(roll) * u - np.sin(roll) * v, np.sin(roll) * u + np.cos(roll) * v
        forward, down = focal * np.cos(pitch) - y * np.sin(pitch), focal * np.sin(pitch) + y * np.cos(pitch)
        longitude, latitude = np.arctan2(x, forward) + yaw, np.arctan2(-down, np.hypot(x, forward))
        column = (longitude / (2 * np.pi) + 0.5) % 1.0 * source.shape[1]
        row = (0.5 - latitude / np.pi) * source.shape[0]
        view = cv2.remap(
            source, column.astype(np.float32), row.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        view = np.clip(view, 0, None) * (rng.uniform(0.25, 0.9) / max(float(np.quantile(view, 0.8)), 1e-3))
        tone = np.clip(view * (1 + 0.12 * view) / (1 + 0.75 * view) * 1.2, 0, 1) ** (rng.uniform(0.85, 1.4) / 2.2)
        image = np.ascontiguousarray((tone[:, :, ::-1] * 255 + 0.5).astype(np.uint8))
        if rng.random() < 0.5:
            image = np.ascontiguousarray(image[:, ::-1])
        yield Sample(image, np.zeros((0, len(COLUMNS)), np.float32), "empty")
