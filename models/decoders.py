"""What the outputs of a detector mean, written as ONNX nodes: raw outputs in, boxes and person scores out.

A *layout* is a family of networks whose outputs are arranged alike. :func:`detect_layout` recognises it from the
outputs themselves, so that a file can be named by path without saying what it is. Only class 0 (person in COCO order)
is read.

Sources of the formulas: YOLOX (grid offsets and log sizes; Ge et al. 2021, arXiv 2107.08430), generalised focal loss
(a distribution per side; Li et al. 2020, arXiv 2006.04388) as used by NanoDet and PicoDet, RTMDet (distances to the
sides; Lyu et al. 2022, arXiv 2212.07784).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from .errors import ModelError
from .graph import GraphWriter, producers

Shape = list[int | str]
Size = tuple[int, int]
PERSON = 0


@dataclass(frozen=True, slots=True)
class Candidates:
    """Where the graph has got to after the network.

    Attributes:
        scores: name of a ``[N]`` float tensor, the score of a person per candidate, 0 to 1.
        boxes: writes the nodes that turn the chosen candidates (name of ``[K]`` indices) into the name of a
            ``[K, 4]`` tensor of ``x1, y1, x2, y2`` in pixels of the network's input. Only the chosen ones are decoded.
    """

    scores: str
    boxes: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Layout:
    """One way in which detectors arrange their outputs.

    Attributes:
        name: as in ``registry.toml`` and ``--layout``.
        text: what the outputs look like, for people.
        matches: whether outputs of these shapes, for an input of this size, are of this layout.
        cut: the tensors to read, by default the outputs themselves.
        decode: writes the decoder.
    """

    name: str
    text: str
    matches: Callable[[Mapping[str, Shape], Size | None], bool]
    decode: Callable[[GraphWriter, Mapping[str, Shape], Size, CellCentre], Candidates]
    cut: Callable[[onnx.GraphProto], list[str] | None] = lambda graph: None


@dataclass(frozen=True, slots=True)
class CellCentre:
    """Where the centre of cell ``i`` of a grid with ``stride`` lies: ``(i + cells) * stride + pixels``."""

    cells: float = 0.5
    pixels: float = 0.0


def cell_count(size: Size, strides: Sequence[int]) -> int:
    """How many cells the grids of these strides have for an input of ``size`` (width, height)."""
    return sum(-(-size[0] // stride) * -(-size[1] // stride) for stride in strides)


def grid(size: Size, strides: Sequence[int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Column and row of every cell ``[N, 2]`` and its stride ``[N, 1]``, row by row, finest stride first."""
    cells, steps = [], []
    for stride in strides:
        columns, rows = np.meshgrid(np.arange(-(-size[0] // stride)), np.arange(-(-size[1] // stride)))
        cells.append(np.stack([columns.ravel(), rows.ravel()], axis=1))
        steps.append(np.full((columns.size, 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(steps).astype(np.float32)


def strides_for(size: Size, count: int) -> tuple[int, ...] | None:
    """The strides whose grids have ``count`` cells together, or None."""
    for strides in ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32), (8, 16, 32, 64, 128), (16, 32), (8, 16), (8,), (16,)):
        if cell_count(size, strides) == count:
            return strides
    return None


def _number(value: int | str) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


def _only(shapes: Mapping[str, Shape]) -> tuple[str, Shape]:
    return next(iter(shapes.items()))


def _column(writer: GraphWriter, data: str, index: int) -> str:
    """Column ``index`` of the last axis of ``[1, N, C]``, as ``[N]``."""
    return writer.op("Reshape", writer.slice(data, index, index + 1, 2), writer.ints(-1))


# --- YOLOX ---------------------------------------------------------------------------------------------------------


def _is_yolox(shapes: Mapping[str, Shape], size: Size | None) -> bool:
    if len(shapes) != 1:
        return False
    shape = _only(shapes)[1]
    if len(shape) != 3 or (_number(shape[2]) or 0) < 6:
        return False
    count = _number(shape[1])
    return size is not None and count is not None and cell_count(size, (8, 16, 32)) == count


def _yolox(writer: GraphWriter, shapes: Mapping[str, Shape], size: Size, _: CellCentre) -> Candidates:
    output, shape = _only(shapes)
    cells, strides = grid(size, (8, 16, 32))
    scores = writer.op("Mul", _column(writer, output, 4), _column(writer, output, 5 + PERSON))

    def boxes(chosen: str) -> str:
        rows = writer.op("Reshape", writer.op("Gather", output, chosen, axis=1), writer.ints(-1, shape_last(shape)))
        origin = writer.op("Gather", writer.const(cells), chosen, axis=0)
        stride = writer.op("Gather", writer.const(strides), chosen, axis=0)
        centre = writer.op("Mul", writer.op("Add", writer.slice(rows, 0, 2, 1), origin), stride)
        half = writer.op("Mul", writer.op("Exp", writer.slice(rows, 2, 4, 1)), stride)
        half = writer.op("Mul", half, writer.const(0.5))
        return writer.op("Concat", writer.op("Sub", centre, half), writer.op("Add", centre, half), axis=1)

    return Candidates(scores, boxes)


def shape_last(shape: Shape) -> int:
    """The last dimension, which a layout has already seen to be fixed."""
    last = _number(shape[-1])
    assert last is not None
    return last


# --- distributions per side: NanoDet, NanoDet-Plus, PicoDet ---------------------------------------------------------


def _gfl_pairs(shapes: Mapping[str, Shape]) -> list[tuple[str, str]] | None:
    """Outputs paired by their number of cells, class scores first, finest grid first; None where they do not pair."""
    by_count: dict[int, list[tuple[str, int]]] = {}
    for name, shape in shapes.items():
        if len(shape) != 3 or (count := _number(shape[1])) is None or (last := _number(shape[2])) is None:
            return None
        by_count.setdefault(count, []).append((name, last))
    pairs = []
    for count in sorted(by_count, reverse=True):
        group = by_count[count]
        if len(group) != 2:
            return None
        sides = [name for name, last in group if last == 32]
        classes = [name for name, last in group if last != 32]
        if len(sides) != 1 or len(classes) != 1:
            return None
        pairs.append((classes[0], sides[0]))
    return pairs


def _is_gfl(shapes: Mapping[str, Shape], _: Size | None) -> bool:
    return len(shapes) in (4, 6, 8, 10) and _gfl_pairs(shapes) is not None


def _gfl(writer: GraphWriter, shapes: Mapping[str, Shape], size: Size, centre: CellCentre) -> Candidates:
    pairs = _gfl_pairs(shapes) or []
    scores = writer.op("Concat", *[_column(writer, classes, PERSON) for classes, _ in pairs], axis=0)
    sides = writer.op("Concat", *[name for _, name in pairs], axis=1)
    count = sum(int(shapes[classes][1]) for classes, _ in pairs)
    return Candidates(scores, _distribution(writer, sides, size, count, centre))


def _is_nanodet_plus(shapes: Mapping[str, Shape], size: Size | None) -> bool:
    if len(shapes) != 1 or size is None:
        return False
    shape = _only(shapes)[1]
    if len(shape) != 3 or (_number(shape[2]) or 0) <= 32:
        return False
    return cell_count(size, (8, 16, 32, 64)) == _number(shape[1])


def _nanodet_plus(writer: GraphWriter, shapes: Mapping[str, Shape], size: Size, centre: CellCentre) -> Candidates:
    output, shape = _only(shapes)
    last = shape_last(shape)
    count = cell_count(size, (8, 16, 32, 64))
    sides = writer.slice(output, last - 32, last, 2)
    return Candidates(_column(writer, output, PERSON), _distribution(writer, sides, size, count, centre))


def _distribution(writer: GraphWriter, sides: str, size: Size, count: int, centre: CellCentre) -> Callable[[str], str]:
    """Decoder of ``[1, N, 4 * 8]``: the distance to each side is the mean of a distribution over 0 to 7 strides."""
    strides = strides_for(size, count)
    if strides is None:
        raise ModelError(f"{count} cells fit no known set of strides for an input of {size[0]}x{size[1]}")
    cells, steps = grid(size, strides)
    points = (cells + np.float32(centre.cells)) * steps + np.float32(centre.pixels)

    def boxes(chosen: str) -> str:
        logits = writer.op("Reshape", writer.op("Gather", sides, chosen, axis=1), writer.ints(-1, 4, 8))
        weights = writer.op("Softmax", logits, axis=2)
        mean = writer.op("MatMul", weights, writer.const(np.arange(8).reshape(8, 1)))
        distance = writer.op("Mul", writer.op("Reshape", mean, writer.ints(-1, 4)),
                             writer.op("Gather", writer.const(steps), chosen, axis=0))  # fmt: skip
        point = writer.op("Gather", writer.const(points), chosen, axis=0)
        start = writer.op("Sub", point, writer.slice(distance, 0, 2, 1))
        return writer.op("Concat", start, writer.op("Add", point, writer.slice(distance, 2, 4, 1)), axis=1)

    return boxes


# --- ready boxes ----------------------------------------------------------------------------------------------------


def _split_boxes_scores(shapes: Mapping[str, Shape]) -> tuple[str, str] | None:
    """Of two outputs, which is ``boxes`` (last dimension 4) and which is ``scores``."""
    if len(shapes) != 2:
        return None
    boxes = [n for n, s in shapes.items() if len(s) in (2, 3) and s[-1] == 4]
    named = [n for n in boxes if "box" in n.lower()]
    if not boxes:
        return None
    box = (named or boxes)[0]
    score = next(n for n in shapes if n != box)
    return (box, score) if len(shapes[score]) in (1, 2, 3) else None


def _is_boxes_scores(shapes: Mapping[str, Shape], _: Size | None) -> bool:
    return _split_boxes_scores(shapes) is not None


def _boxes_scores(writer: GraphWriter, shapes: Mapping[str, Shape], _size: Size, _: CellCentre) -> Candidates:
    pair = _split_boxes_scores(shapes)
    assert pair is not None
    box, score = pair
    if len(shapes[score]) == 3:
        scores = _column(writer, score, PERSON)
    else:
        scores = writer.op("Reshape", score, writer.ints(-1))
    flat = writer.op("Reshape", box, writer.ints(-1, 4))
    return Candidates(scores, lambda chosen: writer.op("Gather", flat, chosen, axis=0))


def _is_dets_labels(shapes: Mapping[str, Shape], _: Size | None) -> bool:
    ranks = sorted((len(s), s[-1] == 5) for s in shapes.values())
    return len(shapes) == 2 and ranks in ([(2, False), (3, True)], [(1, False), (2, True)])


def _dets_labels(writer: GraphWriter, shapes: Mapping[str, Shape], _size: Size, _: CellCentre) -> Candidates:
    """``dets [1, N, 5]`` (box and score) and ``labels [1, N]``: what is no person gets the score 0."""
    dets = next(n for n, s in shapes.items() if s[-1] == 5)
    labels = next(n for n in shapes if n != dets)
    rows = writer.op("Reshape", dets, writer.ints(-1, 5))
    person = writer.cast(writer.op("Equal", writer.cast(writer.op("Reshape", labels, writer.ints(-1)), 7),
                                   writer.ints(PERSON)))  # fmt: skip
    scores = writer.op("Mul", writer.op("Reshape", writer.slice(rows, 4, 5, 1), writer.ints(-1)), person)
    boxes = writer.slice(rows, 0, 4, 1)
    return Candidates(scores, lambda chosen: writer.op("Gather", boxes, chosen, axis=0))


def _before_nms(graph: onnx.GraphProto) -> list[str] | None:
    """In an export with NMS inside, the boxes and scores of every cell before any selection.

    Going back from the NMS node, the scores are the output of the nearest Sigmoid, the boxes that of the nearest
    Concat of four columns along the last axis. None where the graph is built otherwise: its own NMS then stays.
    """
    made_by = producers(graph)
    nms = [node for node in graph.node if node.op_type == "NonMaxSuppression"]
    if len(nms) != 1:
        return None

    def nearest(start: str, wanted: Callable[[onnx.NodeProto], bool]) -> str | None:
        waiting, seen = [start], set()
        while waiting:
            node = made_by.get(waiting.pop(0))
            if node is None or node.output[0] in seen:
                continue
            seen.add(node.output[0])
            if wanted(node):
                return str(node.output[0])
            waiting.extend(node.input)
        return None

    def four_columns(node: onnx.NodeProto) -> bool:
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        return node.op_type == "Concat" and len(node.input) == 4 and axis in (-1, 2)

    boxes = nearest(nms[0].input[0], four_columns)
    scores = nearest(nms[0].input[1], lambda node: node.op_type == "Sigmoid")
    return [boxes, scores] if boxes and scores else None


def _is_yolo_columns(shapes: Mapping[str, Shape], _: Size | None) -> bool:
    if len(shapes) != 1:
        return False
    shape = _only(shapes)[1]
    rows, count = (_number(shape[1]), _number(shape[2])) if len(shape) == 3 else (None, None)
    return rows is not None and count is not None and 5 <= rows < count


def _yolo_columns(writer: GraphWriter, shapes: Mapping[str, Shape], _size: Size, _: CellCentre) -> Candidates:
    """``[1, 4 + classes, N]``: centre and size in pixels, then one probability per class."""
    output = _only(shapes)[0]
    flat = writer.op("Squeeze", output, writer.ints(0))
    scores = writer.op("Reshape", writer.slice(flat, 4 + PERSON, 5 + PERSON, 0), writer.ints(-1))

    def boxes(chosen: str) -> str:
        rows = writer.op("Transpose", writer.op("Gather", writer.slice(flat, 0, 4, 0), chosen, axis=1), perm=[1, 0])
        centre = writer.slice(rows, 0, 2, 1)
        half = writer.op("Mul", writer.slice(rows, 2, 4, 1), writer.const(0.5))
        return writer.op("Concat", writer.op("Sub", centre, half), writer.op("Add", centre, half), axis=1)

    return Candidates(scores, boxes)


# --- the table ------------------------------------------------------------------------------------------------------

LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout("yolox", "one output [1, N, 5 + classes]: offset, log size, objectness, classes; strides 8, 16, 32",
               _is_yolox, _yolox),
        Layout("nanodet-plus", "one output [1, N, classes + 32]: classes, 8 bins per side; strides 8, 16, 32, 64",
               _is_nanodet_plus, _nanodet_plus),
        Layout("gfl", "per stride one output [1, n, classes] and one [1, n, 32], 8 bins per side (NanoDet, PicoDet)",
               _is_gfl, _gfl),
        Layout("dets-labels", "dets [1, N, 5] (x1, y1, x2, y2, score) and labels [1, N] (RTMDet and other MMDetection)",
               _is_dets_labels, _dets_labels, _before_nms),
        Layout("boxes-scores", "boxes [1, N, 4] (x1, y1, x2, y2 in input pixels) and scores [1, N] or [1, N, classes]",
               _is_boxes_scores, _boxes_scores),
        Layout("yolo-columns", "one output [1, 4 + classes, N]: centre, size in input pixels, class probabilities",
               _is_yolo_columns, _yolo_columns),
    )
}  # fmt: skip


def known_layouts() -> str:
    """The layouts, one a line, for error messages and help."""
    return "\n".join(f"  {layout.name:13} {layout.text}" for layout in LAYOUTS.values())


def detect_layout(shapes: Mapping[str, Shape], size: Size | None, source: str) -> Layout:
    """The layout of outputs with these shapes for an input of ``size`` (width, height).

    Raises:
        ModelError: no layout fits; the message lists the outputs and the layouts that are known.
    """
    for layout in LAYOUTS.values():
        if layout.matches(shapes, size):
            return layout
    found = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    raise ModelError(f"{source}: no known layout has the outputs {found}. Known layouts:\n{known_layouts()}")
