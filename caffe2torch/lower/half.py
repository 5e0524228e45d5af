"""An ONNX model in float16, but for what has to stay in float32."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import prod

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from caffe2torch.graph import Array
from caffe2torch.io.arrays import to_half
from caffe2torch.io.schema import replace_all
from caffe2torch.lower.to_onnx import OnnxModel, check, with_declared
from caffe2torch.passes.naming import unused

IN_HALF = frozenset(
    """Abs Add AveragePool Concat Conv ConvTranspose Div Expand Flatten Gemm GlobalMaxPool Identity
    LeakyRelu MatMul Max MaxPool Min Mul Neg Pad PRelu Relu Reshape Resize Sigmoid Slice Split
    Squeeze Sub Tanh Tile Transpose Unsqueeze""".split()
)
"""The operators that float16 is enough for. Others stay in float32: exponents, logarithms, powers,
reductions, comparisons, indices."""
LARGEST_WINDOW = 64
"""Of an average in float16, in values: a sum of more may reach its end, 65504."""
PRECISION = 2.0**-11
"""How far a constant may be moved, relatively: half a unit in float16's last place."""


def to_float16(model: OnnxModel) -> tuple[OnnxModel, tuple[str, ...]]:
    """``model`` in float16, and the layers that stay in float32, by name.

    Before: ``y = Conv(x, w)``, ``z = Softmax(y)``.
    After: ``x@float16 = Cast(x)``, ``y = Conv(x@float16, w)`` with w in float16,
    ``y@float32 = Cast(y)``, ``z = Softmax(y@float32)``.

    Inputs and outputs stay float32. A layer is in float16 if all its operators are of IN_HALF, no
    average is over more than LARGEST_WINDOW values and float16 holds its constants to PRECISION.
    Learned arrays are float16 for all layers, as in a ``.pt``. Raises ArtefactError for one that
    holds a value beyond float16's range.
    """
    writer = _Writer(model)
    nodes = [new for node in model.skeleton.graph.node for new in writer.written(node)]
    skeleton, taken = writer.skeleton, {name for node in nodes for name in node.input}
    constants = [*skeleton.graph.initializer, *writer.constants]
    replace_all(skeleton.graph.node, nodes)
    replace_all(skeleton.graph.initializer, [c for c in constants if c.name in taken])
    outputs = {output.name for output in skeleton.graph.output}
    values = dict(model.values)
    for name in writer.halves - outputs:
        if name in values:
            values[name] = _as_half(values[name])
    infos = [values.get(info.name, info) for info in skeleton.graph.value_info]
    replace_all(skeleton.graph.value_info, infos)
    kept = tuple(dict.fromkeys(layer for layer in writer.layers if layer in writer.kept))
    check(skeleton, writer.weights)
    return replace(model, skeleton=skeleton, weights=writer.weights, values=values), kept


class _Writer:
    """Writes the nodes one by one; ``halves`` are the values, by their own names, in float16."""

    def __init__(self, model: OnnxModel) -> None:
        self.skeleton = onnx.ModelProto()
        self.skeleton.CopyFrom(model.skeleton)
        self.weights: Mapping[str, Array] = to_half(model.weights)
        graph = model.skeleton.graph
        self.arrays = {c.name: numpy_helper.to_array(c) for c in graph.initializer}
        self.floats = _floats(model)
        self.outputs = {output.name for output in graph.output}
        self.layers = [_layer(n) for n in graph.node if self._float_values(n)]
        self.kept = {_layer(n) for n in graph.node if self._float_values(n) and self._stays(n)}
        self.halves = set(self.weights)
        self.constants: list[TensorProto] = []
        self.names: dict[tuple[str, bool], str] = {}
        """By value and whether in float16, the name under which it is there."""
        self.taken = {*self.floats, *self.arrays, *(v for n in graph.node for v in n.output)}
        self.repeats: dict[str, int] = {}

    def written(self, node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
        """``node`` in its own precision, after what it needs and before what follows from it."""
        half = _layer(node) not in self.kept and bool(self._float_values(node))
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for place, name in enumerate(node.input):
            if name in self.floats:
                if (name, half) not in self.names and (name in self.halves) != half:
                    yield from self._cast(name, half)
                copy.input[place] = self.names.get((name, half), name)
        yield copy
        for place, name in enumerate(node.output):
            if half and name in self.floats:
                self.halves.add(name)
                if name in self.outputs:
                    copy.output[place] = self.names[name, True] = self._fresh(f"{name}@float16")
                    yield _cast(copy.output[place], name, TensorProto.FLOAT)
                    self.names[name, False] = name

    def _cast(self, name: str, half: bool) -> Iterator[onnx.NodeProto]:
        """What makes ``name`` in the other precision: a constant of its own, or a Cast."""
        kind = "float16" if half else "float32"
        made = self.names[name, half] = self._fresh(f"{name}@{kind}")
        if name in self.arrays:
            self.constants.append(
                numpy_helper.from_array(self.arrays[name].astype(np.float16), made)
            )
        else:
            yield _cast(name, made, TensorProto.FLOAT16 if half else TensorProto.FLOAT)

    def _float_values(self, node: onnx.NodeProto) -> list[str]:
        return [name for name in (*node.input, *node.output) if name in self.floats]

    def _stays(self, node: onnx.NodeProto) -> bool:
        """Whether the node has to compute in float32."""
        if node.op_type not in IN_HALF:
            return True
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "AveragePool" and prod(given["kernel_shape"]) > LARGEST_WINDOW:
            return True
        constants = (self.arrays[name] for name in node.input if name in self.arrays)
        return not all(_holds(c) for c in constants if c.dtype == np.float32)

    def _fresh(self, name: str) -> str:
        found = unused(name, "'", self.taken, self.repeats)
        self.taken.add(found)
        return found


def _layer(node: onnx.NodeProto) -> str:
    """The layer that a node is of, by the name that the lowering gave it."""
    layer, _, operator = str(node.name).rpartition("/")
    return layer if operator.startswith(node.op_type) else str(node.name)


def _floats(model: OnnxModel) -> set[str]:
    """The values of the model that are float32."""
    graph = onnx.shape_inference.infer_shapes(with_declared(model.skeleton, model.weights)).graph
    infos = (*graph.input, *graph.output, *graph.value_info)
    found = {i.name for i in infos if i.type.tensor_type.elem_type == TensorProto.FLOAT}
    return found | {c.name for c in graph.initializer if c.data_type == TensorProto.FLOAT}


def _holds(constant: Array) -> bool:
    """Whether float16 holds the values: whole numbers as they are, others to PRECISION."""
    with np.errstate(over="ignore"):
        half = constant.astype(np.float16).astype(np.float64)
    whole = constant == np.round(constant)
    with np.errstate(invalid="ignore"):
        near = np.abs(half - constant) <= PRECISION * np.abs(constant)
    return bool(np.all(np.where(whole, half == constant, near)))


def _cast(source: str, made: str, kind: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [made], name=f"{made}/Cast", to=kind)


def _as_half(info: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    made = onnx.ValueInfoProto()
    made.CopyFrom(info)
    made.type.tensor_type.elem_type = TensorProto.FLOAT16
    return made
