"""Shards: a few hundred labelled pictures in one file.

A shard is one ``.npz`` with JPEG bytes end to end and one table of labels, so that a training set is a handful of files
that fit in memory compressed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]

COLUMNS = ("identity", "x1", "y1", "x2", "y2", "hx1", "hy1", "hx2", "hy2", "visible", "in_frame", "pixels")
"""What is known of each person; boxes in pixels of the picture. Pseudo-labels keep their score in ``visible``."""


@dataclass(frozen=True)
class Sample:
    """One picture ``[H, W, 3]`` uint8 BGR, its labels ``[N, 12]`` (see ``COLUMNS``) and the kind of scene."""

    image: U8
    labels: F32
    kind: str

    @property
    def boxes(self) -> F32:
        return self.labels[:, 1:5]


class Shards:
    """All pictures of a folder in memory: compressed, or ``decoded`` where memory is cheaper than time."""

    def __init__(self, files: Iterable[Path], decoded: bool = False) -> None:
        self._decoded = decoded
        self._pictures: list[U8] = []
        self._labels: list[F32] = []
        self.kinds: list[str] = []
        for file in files:
            with np.load(file) as shard:
                ends = np.cumsum(shard["sizes"])
                jpeg, labels, of = shard["jpeg"], shard["labels"], shard["picture"]
                for k, kind in enumerate(shard["kinds"]):
                    data = jpeg[ends[k] - shard["sizes"][k] : ends[k]].copy()
                    self._pictures.append(_decode(data) if decoded else data)
                    self._labels.append(labels[of == k])
                    self.kinds.append(str(kind))

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, k: int) -> Sample:
        image = self._pictures[k] if self._decoded else _decode(self._pictures[k])
        return Sample(image, self._labels[k], self.kinds[k])


def _decode(data: U8) -> U8:
    image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("a picture of a shard cannot be decoded; render it again")
    return np.asarray(image, np.uint8)


def write_shard(path: Path, samples: Iterable[Sample], quality: int = 92) -> None:
    """Write one shard, whole or not at all. The same samples give the same bytes."""
    jpeg: list[U8] = []
    labels: list[F32] = []
    picture: list[int] = []
    kinds: list[str] = []
    for k, sample in enumerate(samples):
        ok, data = cv2.imencode(".jpg", sample.image, [cv2.IMWRITE_JPEG_QUALITY, quality])
        if not ok:
            raise RuntimeError(f"{path}: picture {k} could not be encoded")
        jpeg.append(data.ravel())
        labels.append(sample.labels.reshape(-1, len(COLUMNS)))
        picture += [k] * len(labels[-1])
        kinds.append(sample.kind)
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        np.savez(
            file, jpeg=np.concatenate(jpeg), sizes=np.array([len(j) for j in jpeg], np.int64),
            labels=np.concatenate(labels).astype(np.float32), picture=np.array(picture, np.int32),
            kinds=np.array(kinds),
        )  # fmt: skip
    os.replace(temporary, path)
