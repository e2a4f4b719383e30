"""What the optimiser writes around a network: preparation of the frame before it, choice of people after it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from .decoders import Candidates, CellCentre, Size
from .graph import GraphWriter

SCORE_FLOOR = 0.10
CANDIDATES = 600
MAX_PEOPLE = 200
PAD = 114


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a published file needs to be known about it, apart from what can be seen in it.

    Attributes:
        mean, std: per channel, on the 0 to 255 scale, in the order of the network's channels.
        rgb: the network wants RGB; frames are BGR.
        layout: name of the output layout; None to detect it.
        centre: where the centre of a grid cell lies (layouts ``gfl`` and ``nanodet-plus``).
        nms_iou: boxes that overlap more are one person.
        threshold: score from which a box starts a person.
        low_threshold: score from which a box may continue one.
    """

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    rgb: bool = False
    layout: str | None = None
    centre: CellCentre = field(default_factory=CellCentre)
    nms_iou: float = 0.6
    threshold: float = 0.5
    low_threshold: float = SCORE_FLOOR


def fold_preparation(graph: onnx.GraphProto, name: str, recipe: Recipe) -> Recipe:
    """Move scaling and channel order into the weights of the first convolution; returns what is left to do.

    Exact up to rounding: the convolution pads with zeros after the mean is gone, and zeros stay zeros when scaled. Left
    alone where something else reads the input first.
    """
    users = [node for node in graph.node if name in node.input]
    weights = {tensor.name: tensor for tensor in graph.initializer}
    first = {node.input[1]: weights.get(node.input[1]) for node in users if node.op_type == "Conv"}
    plain = len(users) == sum(node.op_type == "Conv" for node in users)
    for key, tensor in first.items():
        shared = sum(key in node.input for node in graph.node) > 1
        plain = plain and tensor is not None and tensor.dims[1] == 3 and not shared
    if not plain:
        return recipe
    for tensor in first.values():
        assert tensor is not None
        values = numpy_helper.to_array(tensor) / np.array(recipe.std, np.float32).reshape(1, 3, 1, 1)
        values = values[:, ::-1] if recipe.rgb else values
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), tensor.name))
    mean = recipe.mean[::-1] if recipe.rgb else recipe.mean
    return replace(recipe, mean=(mean[0], mean[1], mean[2]), std=(1.0, 1.0, 1.0), rgb=False)


@dataclass(frozen=True, slots=True)
class WayBack:
    """From pixels of the network to pixels of the frame: ``[1, 4]`` factors and ``[1, 4]`` upper bounds."""

    factors: str
    bounds: str


def write_letterbox(writer: GraphWriter, target: str, size: Size, recipe: Recipe) -> WayBack:
    """Nodes from ``frame`` to the network's input ``target``, the picture in the top left corner.

    The frame is resized as uint8 in the order in which it comes: there onnxruntime has its fastest path, and none at
    all is needed when the frame already has the size that the letterbox would give it.
    """
    width, height = size
    frame_hw = writer.slice(writer.op("Shape", "frame"), 1, 3, 0)
    frame_float = writer.cast(frame_hw)
    scale = writer.op("ReduceMin", writer.op("Div", writer.const([height, width]), frame_float), keepdims=1)
    scaled = writer.op("Round", writer.op("Mul", frame_float, scale))
    # At least one pixel, however long and thin the frame.
    inner_float = writer.op("Max", writer.op("Min", scaled, writer.const([height, width])), writer.const([1, 1]))
    inner = writer.cast(inner_float, TensorProto.INT64)
    sizes = writer.op("Concat", writer.ints(1), inner, writer.ints(3), axis=0)
    resized = writer.op(
        "Resize", "frame", "", "", sizes, mode="linear", coordinate_transformation_mode="half_pixel"
    )  # fmt: skip
    missing = writer.op("Sub", writer.ints(height, width), inner)
    pads = writer.op("Concat", writer.ints(0, 0, 0, 0, 0), missing, writer.ints(0), axis=0)
    padded = writer.op("Pad", resized, pads, writer.const(PAD, np.uint8))
    data = writer.cast(writer.op("Transpose", padded, perm=[0, 3, 1, 2]))
    if recipe.rgb:
        data = writer.op("Gather", data, writer.ints(2, 1, 0), axis=1)
    if any(recipe.mean):
        data = writer.op("Sub", data, writer.const(np.array(recipe.mean).reshape(1, 3, 1, 1)))
    if set(recipe.std) == {1.0}:
        writer.op("Identity", data, output=target)
    else:
        factor = (1.0 / np.array(recipe.std)).reshape(1, 3, 1, 1)
        writer.op("Mul", data, writer.const(factor), output=target)
    ratio = writer.op("Div", frame_float, inner_float)
    return WayBack(_hw_to_xyxy(writer, ratio), _hw_to_xyxy(writer, frame_float))


def _hw_to_xyxy(writer: GraphWriter, pair: str) -> str:
    return writer.op("Reshape", writer.op("Gather", pair, writer.ints(1, 0, 1, 0), axis=0), writer.ints(1, 4))


def write_selection(writer: GraphWriter, candidates: Candidates, back: WayBack, nms_iou: float) -> None:
    """Nodes from candidates to ``detections``: best by score, decoded, suppressed, back in the frame, clipped."""
    # Nearly all cells lie below the floor: what follows sees some dozens of candidates and not thousands.
    above = writer.op("NonZero", writer.op("Greater", candidates.scores, writer.const(SCORE_FLOOR)))
    above = writer.op("Reshape", above, writer.ints(-1))
    strong = writer.op("Gather", candidates.scores, above, axis=0)
    keep = writer.op("Min", writer.op("Shape", strong), writer.ints(CANDIDATES))
    scores, order = writer.ops("TopK", [strong, keep], 2, axis=0, largest=1, sorted=1)
    chosen = writer.op("Gather", above, order, axis=0)
    boxes = candidates.boxes(chosen)
    picked = writer.op(
        "NonMaxSuppression",
        writer.op("Unsqueeze", boxes, writer.ints(0)),
        writer.op("Unsqueeze", scores, writer.ints(0, 1)),
        writer.ints(MAX_PEOPLE),
        writer.const([nms_iou]),
        writer.const([SCORE_FLOOR]),
    )
    index = writer.op("Reshape", writer.slice(picked, 2, 3, 1), writer.ints(-1))
    in_frame = writer.op("Mul", writer.op("Gather", boxes, index, axis=0), back.factors)
    in_frame = writer.op("Max", writer.op("Min", in_frame, back.bounds), writer.const(0.0))
    score = writer.op("Unsqueeze", writer.op("Gather", scores, index, axis=0), writer.ints(1))
    rows = writer.op("Concat", in_frame, score, writer.op("Mul", score, writer.const(0.0)), axis=1)
    # What lies wholly in the padding is clipped to nothing: such a box is no box.
    extent = writer.op("Sub", writer.slice(in_frame, 2, 4, 1), writer.slice(in_frame, 0, 2, 1))
    smallest = writer.op("ReduceMin", extent, axes=[1], keepdims=0)
    writer.op("Compress", rows, writer.op("GreaterOrEqual", smallest, writer.const(1.0)), output="detections", axis=0)
