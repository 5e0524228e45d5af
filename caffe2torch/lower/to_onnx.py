"""Graph -> ONNX, built node by node and never through torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from caffe2torch.errors import ArtefactError, Caffe2TorchError, UnsupportedLayerError
from caffe2torch.graph import Array, FloatArray, Graph, Node, Shape
from caffe2torch.io.origin import located
from caffe2torch.io.schema import replace_all
from caffe2torch.lower.batch import batch_of, free_axes, image_sized, shapes_at, with_batch
from caffe2torch.lower.fold_onnx import fold_sizes
from caffe2torch.lower.opset import at_opset
from caffe2torch.version import __version__

OPSET = 17
"""Old enough for every runtime in use, new enough for what the layers need."""
IR_VERSION = 8
"""The IR version of opset 17."""
IMAGE_SIZES = ((96, 135), (97, 132), (98, 131), (99, 130), (101, 136), (103, 133))
"""Images that a net must treat alike to be free of their size: of odd and even height and
width, and of several remainders of the usual strides."""
BATCH = "N"
"""The name of the symbolic batch dimension."""
DATA_SIZED = {"Compress", "If", "Loop", "NonMaxSuppression", "NonZero", "Scan", "Unique"}
"""Operators that give as many values as their data says."""
REDUCTIONS = ("Reduce", "ArgM")
"""How the names of the operators begin that have the attribute keepdims."""


@dataclass(frozen=True)
class OnnxModel:
    """A checked model whose learned arrays stand apart, so that they can be streamed.

    ``skeleton`` is the ModelProto without them; ``weights`` are its initializers by name, float32
    (still the arrays of the graph) or float16. ``values`` declares every value that a layer makes,
    by name: the skeleton declares those of fixed sizes alone, as tract takes a symbolic size
    between layers for a fixed one.
    """

    skeleton: onnx.ModelProto
    weights: Mapping[str, FloatArray]
    values: Mapping[str, onnx.ValueInfoProto]


def to_onnx(
    graph: Graph,
    *,
    opset: int = OPSET,
    batch: int | None = None,
    static: bool = False,
    fixed_rows: bool = False,
) -> OnnxModel:
    """Lower ``graph``. Inputs, outputs and intermediate values carry Caffe's blob names.

    The batch dimension is symbolic where the net allows it, unless ``batch`` is its size. So
    are height and width of an image declared as 1 x 1, which says that they are set at run
    time, if the net has one form for all of IMAGE_SIZES. ``static`` leaves all sizes as they are
    declared. ``fixed_rows`` does so too, and detections come in a fixed number of rows, of which
    those that are left over are -1.

    Raises UnsupportedLayerError for a layer that ONNX cannot express, or not in a fixed number of
    rows, and ArtefactError if ``opset`` cannot, if the net takes no such ``batch`` or if the result
    fails onnx.checker.
    """
    graph = graph if batch is None else with_batch(graph, batch)
    static = static or fixed_rows
    builder = (None if static else _size_free(graph)) or _built(graph, fixed_rows=fixed_rows)
    skeleton, values = builder.finish(free_batch=batch is None and not static)
    fold_sizes(skeleton, [*values.values(), *_declared(graph.params)])
    if fixed_rows:
        inferred = onnx.shape_inference.infer_shapes(with_declared(skeleton, graph.params))
        replace_all(skeleton.graph.output, list(inferred.graph.output))
    if opset != OPSET:
        at_opset(skeleton, opset)
    used = {name for node in skeleton.graph.node for name in node.input}
    weights = {key: array for key, array in graph.params.items() if key in used}
    check(skeleton, weights)
    return OnnxModel(skeleton, weights, values)


def _built(graph: Graph, *, free_sizes: bool = False, fixed_rows: bool = False) -> _Builder:
    builder = _Builder(graph, free_sizes, fixed_rows)
    with located(graph.origin):
        for node in graph.nodes:
            builder.add_layer(node)
    return builder


def _size_free(graph: Graph) -> _Builder | None:
    """The form of a net that takes images of any size; None if it has no such form."""
    builders: list[_Builder] = []
    for height, width in IMAGE_SIZES:
        sized = image_sized(graph, height, width)
        if sized is None:
            return None
        try:
            builders.append(_built(sized, free_sizes=True))
        except Caffe2TorchError:
            return None
    first, *others = builders
    if any(b.nodes != first.nodes or b.initializers != first.initializers for b in others):
        return None
    first.other_shapes = [builder.graph.shapes for builder in others]
    return first


def complete(model: OnnxModel) -> onnx.ModelProto:
    """Return the model in one message, for engines that load from memory."""
    whole = deepcopy(model.skeleton)
    for name, array in model.weights.items():
        whole.graph.initializer.append(
            numpy_helper.from_array(np.require(array, requirements="C"), name)
        )
    return whole


def part_of(model: OnnxModel, values: Sequence[str]) -> OnnxModel:
    """The part of ``model`` that makes ``values``, which become its outputs in this order.

    They are outputs of layers. Inputs and weights that they do not depend on are left out.
    """
    graph = model.skeleton.graph
    declared = {**model.values, **{info.name: info for info in graph.output}}
    needed, nodes = set(values), []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    part = deepcopy(model.skeleton)
    for field, kept in (
        (part.graph.node, nodes[::-1]),
        (part.graph.input, [i for i in graph.input if i.name in needed]),
        (part.graph.output, [declared[value] for value in values]),
        (part.graph.initializer, [i for i in graph.initializer if i.name in needed]),
        (part.graph.value_info, [i for i in graph.value_info if i.name in needed - set(values)]),
    ):
        replace_all(field, kept)
    kept_weights = {k: array for k, array in model.weights.items() if k in needed}
    return OnnxModel(part, kept_weights, model.values)


def initializer(name: str, array: Array) -> TensorProto:
    """The TensorProto of a float32 or float16 array, without its values."""
    kind = TensorProto.FLOAT16 if array.dtype == np.float16 else TensorProto.FLOAT
    return TensorProto(name=name, data_type=kind, dims=array.shape)


class _Builder:
    """The OnnxBuilder that layers see, and the model that grows behind it."""

    def __init__(self, graph: Graph, free_sizes: bool, fixed_rows: bool) -> None:
        self.graph = graph
        self.free_sizes = free_sizes
        self.fixed_rows = fixed_rows
        self.other_shapes: Sequence[Mapping[str, Shape]] = ()
        """For images of other sizes that the same nodes take."""
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[tuple[Any, ...], str] = {}
        self.initializers: list[onnx.TensorProto] = []
        self.names: set[str] = set(graph.shapes) | set(graph.blobs) | set(graph.params)
        self.repeats: dict[str, int] = {}
        self.same: dict[str, str] = {}
        """The value that an Identity copies, which later layers read in its place."""
        self.layer = ""
        self.params: Mapping[str, str] = {}

    def op(
        self, op_type: str, *inputs: str, outputs: int = 1, domain: str = "", **attributes: Any
    ) -> Any:
        while inputs and not inputs[-1]:  # Left out, which OpenVINO asks for.
            inputs = inputs[:-1]
        names = tuple(self._fresh(f"{self.layer}/{op_type}") for _ in range(outputs))
        given = {key: value for key, value in attributes.items() if value is not None}
        if op_type.startswith(REDUCTIONS):  # MNN takes a default for 0.
            given.setdefault("keepdims", 1)
        self.nodes.append(
            helper.make_node(op_type, inputs, names, name=names[0], domain=domain or None, **given)
        )
        return names[0] if outputs == 1 else names

    def const(self, value: Array | Sequence[Any] | float, dtype: Any = np.float32) -> str:
        array = np.asarray(value, dtype=dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.constants:
            name = self._fresh(f"{self.layer}/const")
            self.constants[key] = name
            self.initializers.append(numpy_helper.from_array(array, name))
        return self.constants[key]

    def shape(self, value: str) -> Shape:
        return self.graph.shapes[value]

    def array(self, param: str) -> FloatArray:
        return self.graph.params[param]

    def add_layer(self, node: Node) -> None:
        layer = node.layer
        self.layer, self.params = layer.name, node.params
        first = len(self.nodes)
        try:
            results = layer.to_onnx(self, [self.same.get(name, name) for name in node.inputs])
        except UnsupportedLayerError as error:
            raise error if error.layer is not None else layer.unsupported(error.reason) from None
        if self.fixed_rows and any(part.op_type in DATA_SIZED for part in self.nodes[first:]):
            raise layer.unsupported(
                "the number of its rows depends on the data, and it has no form with a fixed one. "
                "End the net before it with --until"
            )
        made = {name for part in self.nodes[first:] for name in part.output}
        own: dict[str, str] = {}
        for result, output in zip(results, node.outputs, strict=True):
            if result in made and result not in own:
                own[result] = output
            else:
                self.nodes.append(helper.make_node("Identity", [result], [output], name=output))
                if result in self.graph.shapes:
                    self.same[output] = result
        self._rename(own, first)

    def finish(self, free_batch: bool) -> tuple[onnx.ModelProto, dict[str, onnx.ValueInfoProto]]:
        """The model without learned arrays, and what every layer makes."""
        outputs = {blob: self._output_name(blob) for blob in self.graph.outputs}
        batch = batch_of(self.graph) if free_batch else None
        other = shapes_at(self.graph, batch, batch + 1) if batch is not None else None
        shapes = other or self.graph.shapes
        dims = {
            value: _dims(shape, shapes[value], batch) for value, shape in self.graph.shapes.items()
        }
        for value, shape in self.graph.shapes.items():
            for axis, size in enumerate(shape):
                if any(sizes[value][axis] != size for sizes in self.other_shapes):
                    dims[value][axis] = None
        for value, axes in free_axes(self.graph).items():
            for axis in axes:
                dims[value][axis] = None

        def declared(name: str, value: str) -> onnx.ValueInfoProto:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, dims[value])

        made = {v: declared(v, v) for node in self.graph.nodes for v in node.outputs}
        body = helper.make_graph(
            self.nodes,
            self.graph.name or "caffe",
            [declared(i.name, i.name) for i in self.graph.inputs],
            [declared(name, self.graph.blobs[blob]) for blob, name in outputs.items()],
            initializer=self.initializers,
            value_info=[
                info
                for value, info in made.items()
                if value not in outputs.values() and all(isinstance(n, int) for n in dims[value])
            ],
        )
        model = helper.make_model(
            body,
            producer_name="caffe2torch",
            producer_version=__version__,
            doc_string=f"The Caffe net {self.graph.name!r}, phase {self.graph.phase}.",
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        return model, made

    def _output_name(self, blob: str) -> str:
        """The value to report for ``blob``, through an Identity where it needs a new name."""
        value = self.graph.blobs[blob]
        inputs = {i.name for i in self.graph.inputs}
        if value == blob and value not in inputs:
            return blob
        if blob in inputs and value != blob:
            return value  # The input has the name already; ONNX needs another.
        name = blob if blob not in inputs else self._fresh(f"{blob}@output")
        self.nodes.append(helper.make_node("Identity", [value], [name], name=name))
        return name

    def _rename(self, names: Mapping[str, str], first: int) -> None:
        for node in self.nodes[first:]:
            for field in (node.input, node.output):
                field[:] = [names.get(name, name) for name in field]

    def _fresh(self, name: str) -> str:
        unique, count = name, self.repeats.get(name, 1)
        while unique in self.names:
            count += 1
            unique = f"{name}_{count}"
        self.names.add(unique)
        self.repeats[name] = count
        return unique


def _dims(declared: Shape, other: Shape, batch: int | None) -> list[int | str | None]:
    """Dimensions of a value: those that change with the batch are symbolic."""
    return [
        size
        if size == changed
        else (BATCH if (size, changed) == (batch, (batch or 0) + 1) else None)
        for size, changed in zip(declared, other, strict=True)
    ]


def _declared(weights: Mapping[str, Array]) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(name, initializer(name, array).data_type, array.shape)
        for name, array in weights.items()
    ]


def with_declared(skeleton: onnx.ModelProto, weights: Mapping[str, Array]) -> onnx.ModelProto:
    """A copy with the learned arrays declared as inputs: a check needs no values of theirs."""
    declared = deepcopy(skeleton)
    declared.graph.input.extend(_declared(weights))
    return declared


def check(skeleton: onnx.ModelProto, weights: Mapping[str, Array]) -> None:
    """Raise ArtefactError for a graph that onnx.checker does not accept."""
    try:
        onnx.checker.check_model(with_declared(skeleton, weights), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ArtefactError(
            f"the ONNX graph fails its check, which is a fault of caffe2torch: {error}"
        ) from error
