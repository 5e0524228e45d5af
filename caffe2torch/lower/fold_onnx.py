"""Sizes that are known when a model is written: constants in place of what computes them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator

from caffe2torch.graph import Array
from caffe2torch.io.schema import replace_all

ASKED = ("Shape", "Size")
"""The operators that make numbers of the sizes of a value."""
ARITHMETIC = frozenset(
    "Add Cast Concat Div Equal Expand Gather Max Min Mul Range ReduceProd Reshape Slice Squeeze "
    "Sub Unsqueeze".split()
)
"""What layers make of sizes before a tensor comes in. Other operators are left to the reader."""
MOST = 1 << 16
"""Values of a constant that takes the place of a node."""


def fold_sizes(model: onnx.ModelProto, values: Iterable[onnx.ValueInfoProto]) -> None:
    """Make constants, in place, of the sizes in ``model`` that no input changes.

    Before: ``size = Shape(x, start=1, end=2); last = Sub(size, 1)``, x (N, 5).
    After: ``last`` is the constant [4]. Sizes that depend on the batch, a free image or the data
    are computed as before. ``values`` declares what ``model`` itself does not: the tops of layers,
    which stay, as they may be asked for.
    """
    graph, values = model.graph, list(values)
    tops = {info.name for info in values}
    asks = any(node.op_type in ASKED for node in graph.node)
    shapes = _shapes(model, values) if asks else {}
    constants = {i.name: i for i in graph.initializer}
    outputs = {info.name for info in graph.output}
    opset = model.opset_import[0].version
    known: dict[str, Array] = {}
    kept = []
    for node in graph.node:
        value = None
        if node.op_type in ASKED:
            value = _asked(node, shapes.get(node.input[0], ()))
        elif node.op_type in ARITHMETIC:
            value = _computed(node, known, constants, opset)
        name = node.output[0]
        if value is None or name in outputs or name in tops:
            kept.append(node)
        if value is not None and name not in outputs:
            known[name] = value
    replace_all(graph.node, kept)
    read = {name for node in kept for name in node.input} | outputs
    found = [numpy_helper.from_array(known[name], name) for name in known if name not in tops]
    replace_all(graph.initializer, [i for i in [*graph.initializer, *found] if i.name in read])


def _shapes(
    model: onnx.ModelProto, values: Iterable[onnx.ValueInfoProto]
) -> dict[str, tuple[int | None, ...]]:
    """The sizes of all values that are known to have some; None for one that is free."""
    whole = onnx.ModelProto()
    whole.CopyFrom(model)
    have = {info.name for info in [*whole.graph.value_info, *whole.graph.output]}
    whole.graph.value_info.extend(info for info in values if info.name not in have)
    graph = shape_inference.infer_shapes(whole, data_prop=True).graph
    return {
        info.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else None
            for dim in info.type.tensor_type.shape.dim
        )
        for info in [*graph.input, *graph.value_info, *graph.output]
        if info.type.tensor_type.HasField("shape")
    }


def _asked(node: onnx.NodeProto, shape: tuple[int | None, ...]) -> Array | None:
    """What Shape or Size gives for a value of this shape, if that is known."""
    ends = {a.name: a.i for a in node.attribute}
    sizes = [size for size in shape[ends.get("start") : ends.get("end")] if size is not None]
    if not sizes or len(sizes) < len(shape[ends.get("start") : ends.get("end")]):
        return None
    value = np.prod(sizes) if node.op_type == "Size" else sizes
    return np.asarray(value, np.int64)


def _computed(
    node: onnx.NodeProto,
    known: dict[str, Array],
    constants: dict[str, onnx.TensorProto],
    opset: int,
) -> Array | None:
    """The output of ``node`` if all that it reads is constant and its size is small."""
    inputs = {}
    for name in filter(None, node.input):
        if name in constants:
            inputs[name] = numpy_helper.to_array(constants[name])
        elif name in known:
            inputs[name] = known[name]
        else:
            return None
    graph = helper.make_graph(
        [node],
        "node",
        [helper.make_tensor_value_info(n, _kind(a), a.shape) for n, a in inputs.items()],
        [helper.make_value_info(node.output[0], onnx.TypeProto())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    (value,) = ReferenceEvaluator(model).run(None, inputs)
    return np.asarray(value) if np.size(value) <= MOST else None


def _kind(array: Array) -> int:
    return int(helper.np_dtype_to_tensor_dtype(array.dtype))
