"""A network that has seen many real people, opened before its last layers: what it holds in every cell of a picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]

STRIDES = (8, 16, 32)
WIDTH = 128
"""Channels of the teacher that are copied at each stride: 64 of its class branch, 64 of its box branch."""
_AT_ONCE = 4  # pictures: more do not fit the caches and take twice as long each


@dataclass(frozen=True)
class Seen:
    """What the teacher sees at one stride of a batch.

    ``score`` ``[B, h, w]`` 0 to 1, ``boxes`` ``[B, h, w, 4]`` in pixels, ``features`` ``[B, 128, h, w]``.
    """

    score: F32
    boxes: F32
    features: F32


class Yolox:
    """YOLOX-Nano for batches of any size that divides by 32, cut open before its last layers.

    Args:
        path: ``yolox_nano_416.onnx``; the names of its inner tensors are found by its structure.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        model = onnx.load(str(path))
        weights = {i.name for i in model.graph.initializer if i.name.startswith("head.")}
        named = {n.input[1]: n for n in model.graph.node if n.op_type == "Conv" and n.input[1] in weights}
        self._outputs: list[str] = []
        for k in range(len(STRIDES)):
            person, box, there = (named[f"head.{part}_preds.{k}.weight"] for part in ("cls", "reg", "obj"))
            self._outputs += [person.input[0], box.input[0], person.output[0], box.output[0], there.output[0]]
        for dimension, name in zip(model.graph.input[0].type.tensor_type.shape.dim, "bchw", strict=True):
            if name != "c":
                dimension.dim_param = name
        graph = helper.make_graph(
            model.graph.node,
            "teacher",
            model.graph.input,
            [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in self._outputs],
            model.graph.initializer,
        )
        opened = helper.make_model(graph, opset_imports=model.opset_import)
        opened.ir_version = model.ir_version
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(
            opened.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, images: U8) -> list[Seen]:
        """What it sees in ``[B, H, W, 3]`` BGR, stride by stride."""
        parts = [self._few(images[k : k + _AT_ONCE]) for k in range(0, len(images), _AT_ONCE)]
        return [
            Seen(
                *(np.concatenate([getattr(part[k], name) for part in parts]) for name in ("score", "boxes", "features"))
            )
            for k in range(len(STRIDES))
        ]

    def _few(self, images: U8) -> list[Seen]:
        x = np.ascontiguousarray(images.transpose(0, 3, 1, 2), np.float32)
        out = self.session.run(self._outputs, {self.session.get_inputs()[0].name: x})
        seen = []
        for k, stride in enumerate(STRIDES):
            of_class, of_box, classes, box, there = (np.asarray(t, np.float32) for t in out[5 * k : 5 * k + 5])
            score = 1 / ((1 + np.exp(-classes[:, 0])) * (1 + np.exp(-there[:, 0])))
            y, x_ = np.meshgrid(np.arange(box.shape[2]), np.arange(box.shape[3]), indexing="ij")
            cx, cy = (box[:, 0] + x_) * stride, (box[:, 1] + y) * stride
            w, h = np.exp(box[:, 2].clip(-4, 6)) * stride / 2, np.exp(box[:, 3].clip(-4, 6)) * stride / 2
            boxes = np.stack([cx - w, cy - h, cx + w, cy + h], -1)
            seen.append(Seen(score, boxes, np.concatenate([of_class, of_box], 1)))
        return seen
