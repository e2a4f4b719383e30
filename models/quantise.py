"""An int8 twin of an optimised model, kept only where it pays.

Static quantisation (QDQ) of the convolutions and of the additions and resizes between them, so that nothing goes back
to float on the way; the last convolutions before the outputs stay as they are, because boxes and scores there do not
share a scale. The first convolution reads the pixels themselves, which are 8 bits already. Calibration runs the whole
optimised file on real or rendered frames.

Activations are unsigned, weights signed, per channel, and of 7 bits: for such a pair onnxruntime has its fastest
kernels on x86 (signed activations took one and a half times as long), and without VNNI those add two products in 16
bits, where 8 bits times 8 bits can overflow and 8 times 7 cannot.

Networks with SiLU (RTMDet, YOLOX) gain nothing from it on x86: every activation is computed in float between two
conversions. Plain convolution with ReLU gains. So nothing is believed: :func:`assess` measures both.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from .errors import ModelError
from .graph import PREFIX, cut, producers
from .optimise import first_line, load, metadata, session, write

Frame = NDArray[np.uint8]
Boxes = NDArray[np.float32]

MAX_RECALL_LOSS = 0.01
MAX_COUNT_DIFFERENCE = 0.05
MIN_PICTURES = 8
_BETWEEN = ("Add", "Relu", "Resize")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the int8 twin gains and costs on this machine.

    Attributes:
        fp32_ms, int8_ms: median milliseconds a frame, one thread, taken in turns.
        recall: share of the people whom fp32 finds that int8 finds too (IoU 0.5, at the threshold).
        precision: share of what int8 finds that fp32 finds too.
        people: how many people fp32 found.
        keep: int8 is faster, loses at most one point of recall and invents at most 5 %.
    """

    fp32_ms: float
    int8_ms: float
    recall: float
    precision: float
    people: int
    keep: bool

    def as_dict(self) -> dict[str, float | int | bool]:
        return asdict(self)


class _Frames:
    """Frames as onnxruntime's calibration wants to read them."""

    def __init__(self, frames: Iterable[Frame]) -> None:
        self._frames = iter(frames)

    def get_next(self) -> dict[str, Frame] | None:
        frame = next(self._frames, None)
        return None if frame is None else {"frame": frame[None]}


def last_convolutions(graph: onnx.GraphProto, depth: int = 1) -> list[str]:
    """Names of the convolutions from which the outputs can be reached through fewer than ``depth`` others."""
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    distance: dict[str, int] = {}
    for node in reversed(graph.node):
        after = [distance[user.name] for output in node.output for user in users.get(output, [])]
        distance[node.name] = min(after, default=0) + (node.op_type == "Conv")
    return [node.name for node in graph.node if node.op_type == "Conv" and distance[node.name] <= depth]


def between_convolutions(graph: onnx.GraphProto, convolutions: Collection[str]) -> list[str]:
    """Names of the additions, ReLUs and resizes that read what these convolutions have made and that others read."""
    made = {name for node in graph.node if node.name in convolutions for name in node.output}
    for node in graph.node:  # in order: onnx wants it so
        data = list(node.input[:1]) if node.op_type == "Resize" else list(node.input)
        if node.op_type in _BETWEEN and all(name in made for name in data):
            made.update(node.output)
    read: set[str] = set()
    for node in reversed(graph.node):
        if node.name in convolutions or (node.op_type in _BETWEEN and any(name in read for name in node.output)):
            read.update(node.input)
    return [
        node.name
        for node in graph.node
        if node.op_type in _BETWEEN and node.output[0] in made and any(name in read for name in node.output)
    ]


def pixels_as_they_are(graph: onnx.GraphProto) -> None:
    """Let the first convolution read the frame's own 8 bits, in place, where it can.

    ``pixel - mean`` is what a dequantised pixel is, with a scale of 1 and the mean as zero point, where the mean is one
    whole number for all channels; a convolution pads with the zero point, too.
    """
    made_by = producers(graph)
    for node in graph.node:
        quantised = made_by.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if quantised is None or quantised.op_type != "QuantizeLinear":
            continue
        found = _pixels_less_mean(graph, quantised.input[0], made_by)
        if found is None:
            continue
        pixels, mean = found
        scale = numpy_helper.from_array(np.array(1.0, np.float32), f"{PREFIX}pixel_scale")
        zero = numpy_helper.from_array(np.array(mean, np.uint8), f"{PREFIX}pixel_zero_point")
        graph.initializer.extend([scale, zero])
        node.input[:] = [pixels, scale.name, zero.name]
        outputs = list(graph.output)
        cut(graph, [value.name for value in outputs])
        graph.ClearField("output")  # cut forgets their shapes
        graph.output.extend(outputs)
        return


def _pixels_less_mean(graph: onnx.GraphProto, name: str, made_by: dict[str, onnx.NodeProto]) -> tuple[str, int] | None:
    """The uint8 frame and the whole number that, subtracted from it, gives ``name``; None if it is made otherwise."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    mean = 0.0
    while (node := made_by.get(name)) is not None and node.op_type in ("Identity", "Sub"):
        if node.op_type == "Sub":
            tensor = constants.get(node.input[1])
            values = np.unique(numpy_helper.to_array(tensor)) if tensor is not None else np.empty(0)
            if len(values) != 1:
                return None
            mean += float(values[0])
        name = node.input[0]
    if node is None or node.op_type != "Cast" or not 0 <= mean <= 255 or mean != int(mean):
        return None
    pixels = name = node.input[0]
    while (node := made_by.get(name)) is not None and node.op_type in ("Transpose", "Pad", "Resize"):
        name = node.input[0]
    return (pixels, int(mean)) if name == "frame" else None


def quantise(source: Path, target: Path, frames: Sequence[Frame], *, float_depth: int = 1) -> Path:
    """Write the int8 twin of an optimised file.

    Args:
        source: an optimised fp32 file (``headroom models optimise``).
        target: the file to write.
        frames: BGR frames ``[H, W, 3]`` for the calibration, at least 8, like those that the camera will give; not
            the ones on which the result is assessed.
        float_depth: how many layers of convolutions before the outputs stay in floating point.

    Raises:
        ModelError: too few frames, or the file cannot be quantised.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static

    if len(frames) < MIN_PICTURES:
        raise ModelError(f"{len(frames)} calibration pictures are too few; give at least {MIN_PICTURES}")
    model = load(source)
    properties = metadata(model)
    if properties.get("headroom.precision") != "fp32":
        raise ModelError(f"{source}: not an optimised fp32 model; run: headroom models optimise {source}")
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{PREFIX}node_{number}"
    last = set(last_convolutions(model.graph, float_depth))
    convolutions = [n.name for n in model.graph.node if n.op_type == "Conv" and n.name not in last]
    quiet = logging.getLogger()
    level = quiet.level
    with tempfile.TemporaryDirectory(prefix="headroom-") as folder:
        named, int8 = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        onnx.save(model, str(named))
        try:
            quiet.setLevel(logging.ERROR)  # the tool speaks through the root logger
            quantize_static(
                str(named), str(int8), _Frames(frames),
                quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=True,
                op_types_to_quantize=["Conv", *_BETWEEN],
                nodes_to_quantize=[*convolutions, *between_convolutions(model.graph, convolutions)],
                activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                calibrate_method=CalibrationMethod.MinMax,
                extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
            )  # fmt: skip
        except Exception as error:  # the tool raises what its parts raise
            raise ModelError(f"{source}: cannot be quantised: {first_line(error)}") from error
        finally:
            quiet.setLevel(level)
        quantised = load(int8)
    pixels_as_they_are(quantised.graph)
    properties["headroom.precision"] = "int8"
    helper.set_model_props(quantised, properties)
    write(quantised, target)
    return target


def assess(fp32: Path, int8: Path, frames: Sequence[Frame], *, rounds: int = 30) -> Verdict:
    """Compare the twins on frames that calibration has not seen, and say whether int8 is worth keeping here.

    Raises:
        ModelError: no frames, or a file that cannot be loaded.
    """
    if not frames:
        raise ModelError("no pictures to compare fp32 and int8 on")
    threshold = float(metadata(load(fp32))["headroom.threshold"])
    a, b = session(fp32), session(int8)
    hits = invented = people = 0
    for frame in frames:
        wanted, found = _people(a, frame, threshold), _people(b, frame, threshold)
        matched = _matches(wanted, found)
        people += len(wanted)
        hits += matched
        invented += len(found) - matched
    times = _interleaved_ms(a, b, frames, rounds)
    recall = hits / people if people else 1.0
    precision = hits / (hits + invented) if hits + invented else 1.0
    keep = times[1] < times[0] and recall >= 1 - MAX_RECALL_LOSS and precision >= 1 - MAX_COUNT_DIFFERENCE
    return Verdict(*times, recall, precision, people, keep and people > 0)


def _people(run: Any, frame: Frame, threshold: float) -> Boxes:
    rows: Boxes = run.run(None, {"frame": frame[None]})[0]
    return rows[rows[:, 4] >= threshold, :4]


def _matches(wanted: Boxes, found: Boxes) -> int:
    """How many boxes pair up one to one at IoU 0.5 or more, the best pairs first."""
    if not len(wanted) or not len(found):
        return 0
    low = np.maximum(wanted[:, None, :2], found[None, :, :2])
    high = np.minimum(wanted[:, None, 2:], found[None, :, 2:])
    inter = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (wanted, found)]
    iou = inter / (areas[0][:, None] + areas[1][None] - inter)
    count = 0
    while iou.max() >= 0.5:
        row, column = np.unravel_index(iou.argmax(), iou.shape)
        iou[row], iou[:, column] = 0, 0
        count += 1
    return count


def _interleaved_ms(a: Any, b: Any, frames: Sequence[Frame], rounds: int) -> tuple[float, float]:
    """Medians of runs in turns, so that a busy machine is busy for both."""
    spent: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds):
        frame = frames[number % len(frames)][None]
        for run, times in zip((a, b), spent, strict=True):
            begin = time.perf_counter()
            run.run(None, {"frame": frame})
            times.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(spent[0]), statistics.median(spent[1])
