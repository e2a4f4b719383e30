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


def test_threads_that_share_a_batch_learn_the_same_as_one() -> None:
    """With statistics held still, the gradient of a batch is the mean of those of its shares, whoever takes them."""
    torch = pytest.importorskip("torch", reason="torch is not installed (extra 'training')")
    from models.training.net import Detector
    from models.training.train import Batch, Learner

    torch.manual_seed(1)
    net = Detector().eval()
    rng = np.random.default_rng(1)
    person = torch.tensor([[20.0, 10.0, 60.0, 90.0]])
    batch = Batch(rng.integers(0, 255, (4, 96, 160, 3), np.uint8), [person] * 4, [torch.zeros(0, 4)] * 4, [])
    learning = list(net.parameters())
    losses, together = Learner(net, None, learning, threads=2)(batch)
    apart = [Learner(net, None, learning)(share) for share in batch.shares(2)]
    assert losses["box"] == pytest.approx((apart[0][0]["box"] + apart[1][0]["box"]) / 2, rel=1e-4)
    for both, first, second in zip(together, apart[0][1], apart[1][1], strict=True):
        assert torch.allclose(both, (first + second) / 2, rtol=1e-3, atol=1e-5)


def test_gradients_lie_as_their_parameters_do() -> None:
    """The fused optimiser takes both by address: a gradient in another layout would change the wrong weights."""
    torch = pytest.importorskip("torch", reason="torch is not installed (extra 'training')")
    from models.training.train import give

    layer = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    gradient = torch.arange(layer.weight.numel()).float().reshape(layer.weight.shape)  # rows first
    assert gradient.stride() != layer.weight.stride()
    give([layer.weight], [gradient])
    assert layer.weight.grad.stride() == layer.weight.stride()
    before = layer.weight.detach().clone()
    torch.optim.SGD([layer.weight], lr=1e-3, fused=True).step()
    assert torch.allclose(before - layer.weight, gradient * 1e-3, atol=1e-5)
