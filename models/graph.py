"""A small writer of ONNX graphs: nodes in order, constants by value, names made up on the way.

Only operators of the default ONNX domain are written, so that the file runs in any runtime.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
PREFIX = "headroom/"


class GraphWriter:
    """Appends nodes and initialisers to a graph that may already hold a network.

    Every name it makes begins with ``headroom/``, which keeps it apart from the names of the network.
    """

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._count = 0

    def _name(self, what: str) -> str:
        self._count += 1
        return f"{PREFIX}{what}_{self._count}"

    def const(self, value: object, dtype: type[np.generic] | np.dtype[Any] = np.float32) -> str:
        """A constant; equal values share one initialiser."""
        array: NDArray[Any] = np.asarray(value, dtype=dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = self._name("const")
            self.initializers.append(numpy_helper.from_array(array, name))
            self._constants[key] = name
        return self._constants[key]

    def ints(self, *values: int) -> str:
        """A one-dimensional int64 constant, as shapes, axes and slices want it."""
        return self.const(list(values), np.int64)

    def op(self, op_type: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """One node with one output; returns the output's name."""
        return self.ops(op_type, inputs, [output or self._name(op_type)], **attributes)[0]

    def ops(self, op_type: str, inputs: Iterable[str], outputs: Sequence[str] | int, **attributes: Any) -> list[str]:
        """One node with several outputs, given by name or by number."""
        names = [self._name(op_type) for _ in range(outputs)] if isinstance(outputs, int) else list(outputs)
        self.nodes.append(
            helper.make_node(op_type, list(inputs), names, name=f"{PREFIX}{op_type}:{names[0]}", **attributes)
        )
        return names

    def slice(self, data: str, start: int, end: int, axis: int) -> str:
        return self.op("Slice", data, self.ints(start), self.ints(end), self.ints(axis))

    def cast(self, data: str, to: int = TensorProto.FLOAT) -> str:
        return self.op("Cast", data, to=to)


def shape_of(value: onnx.ValueInfoProto) -> list[int | str]:
    """The dimensions of an input or output; a name or ``"?"`` where one is not fixed."""
    dims = value.type.tensor_type.shape.dim
    return [int(d.dim_value) if d.HasField("dim_value") else (d.dim_param or "?") for d in dims]


def real_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The inputs that a caller feeds (files of IR version 3 list their weights as inputs too)."""
    weights = {tensor.name for tensor in graph.initializer}
    return [value for value in graph.input if value.name not in weights]


def producers(graph: onnx.GraphProto) -> dict[str, onnx.NodeProto]:
    """Which node makes which tensor."""
    return {output: node for node in graph.node for output in node.output if output}


def cut(graph: onnx.GraphProto, outputs: Sequence[str]) -> None:
    """Keep only what ``outputs`` need, in place: other nodes, weights, outputs and stale shapes go."""
    made_by = producers(graph)
    needed: set[str] = set()
    waiting = list(outputs)
    while waiting:
        name = waiting.pop()
        if not name or name in needed:
            continue
        needed.add(name)
        if name in made_by:
            waiting.extend(made_by[name].input)
    nodes = [node for node in graph.node if any(output in needed for output in node.output)]
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    inputs = real_inputs(graph)
    for field in ("node", "initializer", "input", "output", "value_info"):
        graph.ClearField(field)
    graph.node.extend(nodes)
    graph.initializer.extend(weights)
    graph.input.extend(inputs)
    graph.output.extend(helper.make_empty_tensor_value_info(name) for name in outputs)


def domains(model: onnx.ModelProto) -> set[str]:
    """The operator domains that the nodes of a model use, ``""`` being plain ONNX."""
    return {"" if node.domain == "ai.onnx" else node.domain for node in model.graph.node}
