"""``python -m models.training.export``: from a checkpoint to the files that ship.

The network is written node by node as plain ONNX (batch norms folded, height and width free), with outputs of the
layout ``boxes-scores``; ``models.optimise`` puts frame handling and suppression around it, once for doors and once for
rooms, and ``models.quantise`` makes the int8 twins.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from models.graph import IR_VERSION, OPSET, GraphWriter
from models.optimise import Recipe, optimise, write
from models.quantise import quantise

from . import options

F32 = NDArray[np.float32]
U8 = NDArray[np.uint8]
State = dict[str, F32]

NAME = "headroom-person"
SIZES = {"door": (416, 256), "room": (960, 544)}
MEAN, SCALE = 114.0, 1 / 58.0
STRIDES = (8, 16, 32)
NMS_IOU = 0.4
"""Best F1 by point on held-out renderings, room and door size (0.6, 0.5, 0.45, 0.4, 0.35 were tried)."""
_EPSILON = 1e-5  # of torch's batch norm


def read_checkpoint(path: Path) -> State:
    """The averaged weights of a checkpoint: a ``.pt`` of training (needs torch) or the small ``.npz`` that ships.

    The heads that learned from a teacher have names that begin with ``copies.``
    """
    if path.suffix == ".npz":
        with np.load(path) as file:
            return {name: file[name].astype(np.float32) for name in file.files}
    import torch

    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    state = dict(checkpoint["average"]) | {f"copies.{n}": v for n, v in checkpoint.get("copies", {}).items()}
    return {name: value.float().numpy() for name, value in state.items()}


def without_teacher(state: State) -> State:
    """What ships: the network and the head that learned from labels."""
    return {name: value for name, value in state.items() if not name.startswith("copies.")}


def write_small(state: State, path: Path) -> None:
    """The weights in half precision (running statistics in full): enough to go on training, small enough to commit."""
    small = {n: v if "running" in n or v.ndim == 0 else v.astype(np.float16) for n, v in state.items()}
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        np.savez_compressed(file, **small)  # type: ignore[arg-type]
    os.replace(temporary, path)


class _Network:
    """Writes ``net.Detector.forward`` and ``net.decode`` as nodes."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.g = GraphWriter()

    def _convolution(self, x: str, weight: F32, bias: F32, stride: int, relu: bool) -> str:
        half = weight.shape[2] // 2
        y = self.g.op("Conv", x, self.g.const(weight), self.g.const(bias), kernel_shape=list(weight.shape[2:]),
                      strides=[stride, stride], pads=[half] * 4)  # fmt: skip
        return self.g.op("Relu", y) if relu else y

    def conv(self, x: str, name: str, stride: int = 1, relu: bool = True) -> str:
        """A convolution with its batch norm folded in."""
        weight = self.state[f"{name}.0.weight"]
        gain = self.state[f"{name}.1.weight"] / np.sqrt(self.state[f"{name}.1.running_var"] + _EPSILON)
        bias = self.state[f"{name}.1.bias"] - self.state[f"{name}.1.running_mean"] * gain
        return self._convolution(x, weight * gain[:, None, None, None], bias, stride, relu)

    def stage(self, x: str, name: str) -> str:
        """A strided convolution, then blocks and plain convolutions as the checkpoint has them."""
        x = self.conv(x, f"{name}.0", 2)
        k = 1
        while True:
            if f"{name}.{k}.a.0.weight" in self.state:
                around = self.conv(self.conv(x, f"{name}.{k}.a"), f"{name}.{k}.b", relu=False)
                x = self.g.op("Relu", self.g.op("Add", x, around))
            elif f"{name}.{k}.0.weight" in self.state:
                x = self.conv(x, f"{name}.{k}")
            else:
                return x
            k += 1

    def double(self, x: str) -> str:
        scales = self.g.const([1.0, 1.0, 2.0, 2.0])
        return self.g.op(
            "Resize", x, "", scales, mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor"
        )

    def features(self, image: str) -> list[str]:
        g = self.g
        c3 = self.stage(self.conv(self.conv(image, "stem.0", 2), "stem.1", 2), "c3")
        c4 = self.stage(c3, "c4")
        c5 = self.conv(self.stage(c4, "c5"), "l5")
        p4 = self.conv(g.op("Add", self.conv(c4, "l4"), self.double(c5)), "m4")
        p3 = g.op("Add", self.conv(c3, "l3"), self.double(p4))
        f3 = self.conv(p3, "heads.0")
        f4 = self.conv(g.op("Add", p4, self.conv(f3, "down3", 2)), "heads.1")
        return [f3, f4, self.conv(g.op("Add", c5, self.conv(f4, "down4", 2)), "heads.2")]

    def decode(self, feature: str, k: int) -> tuple[str, str]:
        """Scores ``[1, n]`` and boxes ``[1, n, 4]`` of one stride, for any height and width."""
        g, stride = self.g, float(STRIDES[k])
        weight, bias = (np.concatenate([self.state[f"{n}.{k}.{part}"] for n in ("score", "box")])
                        for part in ("weight", "bias"))  # fmt: skip
        raw = self._convolution(feature, weight, bias, 1, False)
        logit, sides = g.slice(raw, 0, 1, 1), g.slice(raw, 1, 5, 1)
        score = g.op("Reshape", g.op("Sigmoid", logit), g.ints(1, -1))
        reach = g.op("Mul", g.op("Exp", g.op("Clip", sides, g.const(-4.0), g.const(5.0))), g.const(stride))
        shape = g.op("Shape", sides)
        axes = []
        for axis, view in ((3, (1, 1, 1, -1)), (2, (1, 1, -1, 1))):
            length = g.op("Squeeze", g.slice(shape, axis, axis + 1, 0), g.ints(0))
            index = g.cast(g.op("Range", g.const(0, np.int64), length, g.const(1, np.int64)))
            place = g.op("Mul", g.op("Add", index, g.const(0.5)), g.const(stride))
            axes.append(g.op("Reshape", place, g.ints(*view)))
        x, y = axes
        corners = [g.op("Sub", x, g.slice(reach, 0, 1, 1)), g.op("Sub", y, g.slice(reach, 1, 2, 1)),
                   g.op("Add", x, g.slice(reach, 2, 3, 1)), g.op("Add", y, g.slice(reach, 3, 4, 1))]  # fmt: skip
        flat = g.op("Reshape", g.op("Concat", *corners, axis=1), g.ints(1, 4, -1))
        return score, g.op("Transpose", flat, perm=[0, 2, 1])


def network(state: State) -> onnx.ModelProto:
    """The network with free height and width: ``image`` float ``[1, 3, H, W]`` normalised; ``boxes``, ``scores``."""
    writer = _Network(state)
    parts = [writer.decode(feature, k) for k, feature in enumerate(writer.features("image"))]
    writer.g.op("Concat", *[score for score, _ in parts], axis=1, output="scores")
    writer.g.op("Concat", *[boxes for _, boxes in parts], axis=1, output="boxes")
    graph = helper.make_graph(
        writer.g.nodes, NAME,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "height", "width"])],
        [helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, "cells", 4]),
         helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, "cells"])],
        writer.g.initializers,
    )  # fmt: skip
    # names with the prefix of the frame handling would meet those that ``optimise`` adds
    for node in graph.node:
        node.name = node.name.replace("headroom/", "net/")
        for field in (node.input, node.output):
            for i, name in enumerate(field):
                field[i] = name.replace("headroom/", "net/")
    for tensor in graph.initializer:
        tensor.name = tensor.name.replace("headroom/", "net/")
    model = helper.make_model(graph, producer_name="headroom", opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    onnx.checker.check_model(model)
    return model


def export(
    state: State, folder: Path, thresholds: dict[str, float], calibration: Sequence[U8] = (), float_depth: int = 1,
    properties: dict[str, str] | None = None, work: Path | None = None,
) -> dict[str, dict[str, Path]]:  # fmt: skip
    """Write the files of both modes, fp32 and (with calibration frames) int8.

    Returns:
        mode -> precision -> path.
    """
    folder.mkdir(parents=True, exist_ok=True)
    published = (work or folder) / f"{NAME}-network.onnx"
    write(network(state), published)
    written: dict[str, dict[str, Path]] = {}
    std = 1 / SCALE
    for mode, size in SIZES.items():
        recipe = Recipe(
            mean=(MEAN,) * 3, std=(std,) * 3, layout="boxes-scores", threshold=thresholds[mode], nms_iou=NMS_IOU
        )
        target = folder / f"{NAME}-{mode}.onnx"
        optimise(
            published,
            target,
            size=size,
            recipe=recipe,
            properties={"headroom.model": NAME, "headroom.mode": mode, **(properties or {})},
        )
        written[mode] = {"fp32": target}
        if len(calibration):
            written[mode]["int8"] = quantise(
                target, folder / f"{NAME}-{mode}-int8.onnx", calibration, float_depth=float_depth
            )
    if work is None:
        published.unlink()
    return written


def calibration_frames(shards: Path | None, real: Path | None, count: int = 64) -> list[U8]:
    """Rendered and open pictures by turns."""
    from .data.mix import shards_in
    from .data.shards import Shards

    pools = [Shards(shards_in(folder)[:1]) for folder in (shards, real) if folder is not None]
    return (
        [pools[k % len(pools)][(k // len(pools)) * 3 % len(pools[k % len(pools)])].image for k in range(count)]
        if pools
        else []
    )


@click.command(context_settings=options.HELP)
@options.checkpoint
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the ONNX files.")
@click.option(
    "--shards",
    default=None,
    type=options.FOLDER,
    help="Rendered pictures to calibrate int8 on.",
)
@click.option(
    "--real",
    default=None,
    type=options.FOLDER,
    help="Open pictures to calibrate int8 on.",
)
@click.option(
    "--calibration",
    default=None,
    type=options.FILE,
    help="The thresholds that models.training.calibrate wrote.",
)
@click.option(
    "--small", default=None, type=click.Path(path_type=Path), help="Write the weights in half precision here too."
)
def main(
    checkpoint: Path,
    out: Path,
    shards: Path | None,
    real: Path | None,
    calibration: Path | None,
    small: Path | None,
) -> None:
    """Write fp32 and int8 files for doors and rooms.

    \b
    Example: python -m models.training.export --checkpoint runs/a-final/last.pt --out models/weights \\
                 --calibration runs/calibration.json --shards runs/shards --real runs/real
    """
    state = read_checkpoint(checkpoint)
    thresholds = {"door": 0.4, "room": 0.4}
    if calibration is not None:
        thresholds |= json.loads(calibration.read_text(encoding="utf-8"))
    written = export(without_teacher(state), out, thresholds, calibration_frames(shards, real))
    if small is not None:
        write_small(state, small)
    sizes: dict[str, Any] = {str(p): p.stat().st_size for files in written.values() for p in files.values()}
    click.echo(json.dumps(sizes, indent=2))


if __name__ == "__main__":
    main()
