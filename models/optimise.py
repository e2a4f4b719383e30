"""From a detector as published to one file that takes a camera frame and gives people.

The optimised file holds, in plain ONNX operators, everything between frame and boxes:

* input ``frame``: uint8 ``[1, H, W, 3]``, BGR, any size;
* letterbox resize (bilinear, half-pixel centres, top left, padded with 114) to a size fixed at optimise time,
  normalisation, the network, its decoder, the best candidates by score, non-maximum suppression;
* output ``detections``: float32 ``[N, 6]``, x1 y1 x2 y2 in pixels of the frame, score, class (always 0, person).

The score floor in the graph is low: the tracker has a use for weak boxes. The thresholds that make a person of a box
stand in the file's metadata (``headroom.threshold``, ``headroom.low_threshold``).
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, version_converter

from .decoders import LAYOUTS, Layout, Size, detect_layout
from .errors import ModelError
from .graph import IR_VERSION, OPSET, GraphWriter, cut, domains, real_inputs, shape_of
from .stages import PAD, SCORE_FLOOR, Recipe, fold_preparation, write_letterbox, write_selection

__all__ = [
    "SCORE_FLOOR", "VERSION", "Optimised", "Recipe", "file_sha256", "first_line", "layout_of", "load", "metadata",
    "optimise", "session", "write",
]  # fmt: skip

VERSION = "2"
"""Of the way in which files are optimised: a cached file of another version is made anew."""


@dataclass(frozen=True, slots=True)
class Optimised:
    """What came out: the file, the network's input size (width, height) and the layout that was found."""

    path: Path
    size: Size
    layout: str


def session(model: onnx.ModelProto | Path, threads: int = 1, level: str = "all") -> ort.InferenceSession:
    """A session as a sensor uses it: fixed threads, no spinning, no arena.

    Raises:
        ModelError: the file cannot be loaded.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 4
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if level == "basic":
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises bare Exceptions of many classes
        name = model if isinstance(model, Path) else "the model"
        raise ModelError(f"{name}: onnxruntime cannot load it: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """The first line of what a library says; the rest is C++ source locations."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load(path: Path) -> onnx.ModelProto:
    """Read an ONNX file and check its structure.

    Raises:
        ModelError: missing, not ONNX, cut off or inconsistent.
    """
    try:
        model = onnx.load(str(path))
    except FileNotFoundError:
        raise ModelError(f"{path}: there is no such file") from None
    except Exception as error:  # protobuf raises its own DecodeError, onnx a ValueError
        raise ModelError(f"{path}: not an ONNX file, or damaged ({first_line(error)}); fetch it again") from error
    if not model.graph.node or not model.graph.output:
        raise ModelError(f"{path}: not an ONNX model (it has no nodes or no output); fetch it again")
    return model


def metadata(model: onnx.ModelProto) -> dict[str, str]:
    """The metadata of a file, as a dict."""
    return {entry.key: entry.value for entry in model.metadata_props}


def optimise(
    source: Path,
    target: Path,
    *,
    size: Size,
    recipe: Recipe | None = None,
    properties: Mapping[str, str] | None = None,
) -> Optimised:
    """Write the optimised form of ``source`` to ``target``.

    Args:
        source: a detector as published: one float input ``[1, 3, H, W]``, outputs of a known layout.
        target: the file to write (to a temporary name, then renamed).
        size: width and height of the network's input, multiples of 32. A network that was exported for one size and
            cannot be run at another keeps its own; see the result.
        recipe: normalisation, layout and thresholds.
        properties: further metadata to write (keys are written as given).

    Raises:
        ModelError: the file is damaged, or its input or outputs are of no known kind.
    """
    recipe = recipe or Recipe()
    model = load(source)
    if "headroom.optimised_by" in metadata(model):
        raise ModelError(f"{source}: it is optimised already; name the file as published")
    native = _input_size(model, source)
    network, layout, used = _fit_network(model, source, size, native, recipe)
    built = _assemble(network, layout, used, recipe)
    helper.set_model_props(
        built,
        {
            "headroom.optimised_by": f"headroom {VERSION}",
            "headroom.source_sha256": file_sha256(source),
            "headroom.threshold": f"{recipe.threshold:g}",
            "headroom.low_threshold": f"{recipe.low_threshold:g}",
            "headroom.input_size": f"{used[0]}x{used[1]}",
            "headroom.layout": layout.name,
            "headroom.precision": "fp32",
            **(properties or {}),
        },
    )
    write(built, target)
    return Optimised(target, used, layout.name)


def write(model: onnx.ModelProto, target: Path) -> None:
    """Check a model and write it whole or not at all."""
    onnx.checker.check_model(model)
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        temporary = Path(file.name)
        try:
            file.write(model.SerializeToString())
            file.flush()
            temporary.chmod(0o644)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _input_size(model: onnx.ModelProto, source: Path) -> Size | None:
    """Width and height that the file was exported for; None where it takes any."""
    inputs = real_inputs(model.graph)
    if len(inputs) != 1:
        raise ModelError(f"{source}: expected one input, found {[value.name for value in inputs]}")
    shape = shape_of(inputs[0])
    if len(shape) != 4 or (isinstance(shape[1], int) and shape[1] != 3):
        raise ModelError(f"{source}: expected an input [1, 3, height, width], {inputs[0].name!r} is {shape}")
    if inputs[0].type.tensor_type.elem_type != TensorProto.FLOAT:
        raise ModelError(f"{source}: expected a float32 input, {inputs[0].name!r} is of another type")
    height, width = shape[2], shape[3]
    return (width, height) if isinstance(width, int) and isinstance(height, int) and width and height else None


def _fit_network(
    model: onnx.ModelProto, source: Path, size: Size, native: Size | None, recipe: Recipe
) -> tuple[onnx.ModelProto, Layout, Size]:
    """The network at the wanted size where it can be run at it, else at the size that it was exported for.

    Many exports carry a fixed size in their input alone; nothing else in a fully convolutional network does. Others
    have it in the constants of their Reshape nodes, which shows when they are run.
    """
    sizes = [size] if native in (None, size) else [size, native]
    for attempt, candidate in enumerate(sizes):
        assert candidate is not None
        try:
            network, layout = _network_at(model, source, candidate, recipe)
        except ModelError:
            if attempt == len(sizes) - 1:
                raise
        else:
            return network, layout, candidate
    raise AssertionError("unreachable")


def _network_at(model: onnx.ModelProto, source: Path, size: Size, recipe: Recipe) -> tuple[onnx.ModelProto, Layout]:
    """The network with its input fixed to ``size``, cut before any selection of its own, as plain ONNX at OPSET."""
    network = onnx.ModelProto()
    network.CopyFrom(model)
    graph = network.graph
    name = real_inputs(graph)[0].name
    outputs = [value.name for value in graph.output]
    weights = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.input if value.name not in weights]
    graph.ClearField("input")
    graph.input.extend(kept)
    _fix_input(graph, size)
    layout = _layout(network, source, size, name, outputs, recipe)
    cut(graph, layout.cut(graph) or outputs)
    network = _to_opset(network, source)
    return _folded(network, source), layout


def _fix_input(graph: onnx.GraphProto, size: Size) -> None:
    dims = real_inputs(graph)[0].type.tensor_type.shape.dim
    for dim, value in zip(dims, (1, 3, size[1], size[0]), strict=True):
        dim.Clear()
        dim.dim_value = value
    graph.ClearField("value_info")


def _layout(
    network: onnx.ModelProto, source: Path, size: Size, name: str, outputs: list[str], recipe: Recipe
) -> Layout:
    """The layout that the recipe names, or the one that the outputs of a trial run have."""
    if recipe.layout is not None and recipe.layout not in LAYOUTS:
        raise ModelError(f"layout {recipe.layout!r} is not known; known: {', '.join(LAYOUTS)}")
    shapes = trial_shapes(network, source, size, name, outputs)
    if recipe.layout is None:
        return detect_layout(shapes, size, str(source))
    layout = LAYOUTS[recipe.layout]
    if not layout.matches(shapes, size):
        found = ", ".join(f"{key} {shape}" for key, shape in shapes.items())
        raise ModelError(f"{source}: layout {layout.name!r} expects {layout.text}; the file has {found}")
    return layout


def layout_of(source: Path, size: Size) -> str:
    """The name of the layout of a published file, run at ``size`` or at the size that it was exported for.

    Raises:
        ModelError: the file is damaged, or its input or outputs are of no known kind.
    """
    model = load(source)
    return _fit_network(model, source, size, _input_size(model, source), Recipe())[1].name


def trial_shapes(
    network: onnx.ModelProto, source: Path, size: Size, name: str, outputs: list[str]
) -> dict[str, list[int | str]]:
    """Shapes of the outputs, seen by running the network once on a grey picture.

    Raises:
        ModelError: it cannot be run at this size.
    """
    relaxed = onnx.ModelProto()
    relaxed.CopyFrom(network)
    for value in relaxed.graph.output:
        value.type.tensor_type.ClearField("shape")
    picture = np.full((1, 3, size[1], size[0]), PAD, np.float32)
    try:
        values = session(relaxed, level="basic").run(outputs, {name: picture})
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{source}: it does not run at {size[0]}x{size[1]}: {first_line(error)}") from error
    # What an NMS inside the network returns depends on the picture: such a dimension is not fixed.
    return {key: [int(d) for d in value.shape] for key, value in zip(outputs, values, strict=True)}


def _to_opset(network: onnx.ModelProto, source: Path) -> onnx.ModelProto:
    foreign = domains(network) - {""}
    if foreign:
        raise ModelError(f"{source}: it uses operators outside plain ONNX ({', '.join(sorted(foreign))})")
    version = max((entry.version for entry in network.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if version == OPSET:
        return network
    try:
        return version_converter.convert_version(network, OPSET)
    except Exception as error:
        raise ModelError(
            f"{source}: cannot be converted from opset {version} to {OPSET}: {first_line(error)}"
        ) from error


def _folded(network: onnx.ModelProto, source: Path) -> onnx.ModelProto:
    """Constants folded and simple neighbours fused by onnxruntime's basic level, which writes plain ONNX."""
    with _scratch() as folder:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(folder / "folded.onnx")
        options.log_severity_level = 4
        try:
            ort.InferenceSession(network.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise ModelError(f"{source}: onnxruntime cannot load it: {first_line(error)}") from error
        folded = onnx.load(str(folder / "folded.onnx"))
    return folded if domains(folded) <= {""} else network


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="headroom-") as name:
        yield Path(name)


def _assemble(network: onnx.ModelProto, layout: Layout, size: Size, recipe: Recipe) -> onnx.ModelProto:
    """Put preparation, network and decoder into one graph."""
    writer = GraphWriter()
    name = real_inputs(network.graph)[0].name
    outputs = [value.name for value in network.graph.output]
    recipe = fold_preparation(network.graph, name, recipe)
    values = session(network, level="basic").run(outputs, {name: np.full((1, 3, size[1], size[0]), PAD, np.float32)})
    shapes: dict[str, list[int | str]] = {key: [*value.shape] for key, value in zip(outputs, values, strict=True)}
    if layout.name == "dets-labels" and not layout.matches(shapes, size):
        layout = LAYOUTS["boxes-scores"]  # cut before its own NMS
    back = write_letterbox(writer, name, size, recipe)
    before = len(writer.nodes)
    candidates = layout.decode(writer, shapes, size, recipe.centre)
    write_selection(writer, candidates, back, recipe.nms_iou)
    graph = helper.make_graph(
        [*writer.nodes[:before], *network.graph.node, *writer.nodes[before:]],
        "headroom",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, [1, "height", "width", 3])],
        [helper.make_tensor_value_info("detections", TensorProto.FLOAT, ["people", 6])],
        [*network.graph.initializer, *writer.initializers],
    )
    model = helper.make_model(graph, producer_name="headroom", opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    return model
