"""The teacher opened before its last layers, and the heads that learn from it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from models.training.teacher import STRIDES, WIDTH, Seen, Yolox

DATA = Path(os.environ.get("HEADROOM_DATA", "/nonexistent"))
FILE = DATA / "teachers" / "yolox_nano_416.onnx"


@pytest.mark.skipif(not FILE.is_file(), reason="HEADROOM_DATA has no teachers/yolox_nano_416.onnx")
def test_the_opened_teacher_says_what_the_whole_one_says() -> None:
    picture = np.random.default_rng(4).integers(0, 255, (1, 416, 416, 3), np.uint8)
    whole = ort.InferenceSession(str(FILE), providers=["CPUExecutionProvider"])
    (raw,) = whole.run(None, {"images": np.ascontiguousarray(picture.transpose(0, 3, 1, 2), np.float32)})
    seen = Yolox(FILE)(picture)
    score = np.concatenate([s.score[0].ravel() for s in seen])
    assert np.abs(score - raw[0, :, 4] * raw[0, :, 5]).max() < 1e-4
    for s, stride in zip(seen, STRIDES, strict=True):
        assert s.score.shape == (1, 416 // stride, 416 // stride)
        assert s.features.shape == (1, WIDTH, 416 // stride, 416 // stride)
    first = seen[2].boxes[0, 3, 5]
    offset = 52 * 52 + 26 * 26 + 3 * 13 + 5
    cx, cy = (raw[0, offset, 0] + 5) * 32, (raw[0, offset, 1] + 3) * 32
    assert (first[0] + first[2]) / 2 == pytest.approx(cx, abs=0.05)
    assert (first[1] + first[3]) / 2 == pytest.approx(cy, abs=0.05)


@pytest.mark.skipif(not FILE.is_file(), reason="HEADROOM_DATA has no teachers/yolox_nano_416.onnx")
def test_the_teacher_takes_batches_of_any_size() -> None:
    pictures = np.random.default_rng(4).integers(0, 255, (5, 96, 160, 3), np.uint8)
    teacher = Yolox(FILE)
    together, last = teacher(pictures), teacher(pictures[4:])
    assert [s.score.shape for s in together] == [(5, 12, 20), (5, 6, 10), (5, 3, 5)]
    assert np.abs(together[0].features[4] - last[0].features[0]).max() < 1e-2


def test_the_copies_come_near_a_teacher() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed (extra 'training')")
    from models.training.distil import Copies

    torch.manual_seed(1)
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(WIDTH, 8)).astype(np.float32)
    features, seen = [], []
    for stride in STRIDES:
        own = rng.normal(size=(2, 8, 96 // stride, 96 // stride)).astype(np.float32)
        score = (own[:, 0] > 1).astype(np.float32)
        middle = (np.indices(own.shape[2:]).transpose(1, 2, 0)[..., ::-1] + 0.5) * stride
        half = np.float32(stride)
        boxes = np.broadcast_to(np.concatenate([middle - half, middle + half], -1), (2, *middle.shape[:2], 4))
        seen.append(Seen(score, boxes.astype(np.float32), np.einsum("ck,bkhw->bchw", mixing, own)))
        features.append(torch.from_numpy(own))
    copies = Copies(8)
    optimiser = torch.optim.Adam(copies.parameters(), 0.03)
    parts = []
    for _ in range(150):
        loss, part = copies.loss(features, seen)
        parts.append(part)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert parts[-1]["copied"] < 0.25 * parts[0]["copied"]
    assert parts[-1]["teacher"] < 0.5 * parts[0]["teacher"]
    assert parts[-1]["teacher_box"] < 0.3
