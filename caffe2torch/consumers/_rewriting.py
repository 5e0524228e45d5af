"""What consumers' rewrites of an ONNX graph are made of."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from caffe2torch.consumers import Doubt
from caffe2torch.io.schema import replace_all

if TYPE_CHECKING:
    import onnx

    from caffe2torch.graph import Array


class Writer:
    """Adds nodes and constants to an ONNX graph under names that it does not have yet."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.nodes: list[onnx.NodeProto] = []
        """What stands in place of the node that is being replaced."""
        nodes = (name for node in self.graph.node for name in (*node.input, *node.output))
        self._constants = {i.name: i for i in self.graph.initializer}
        self._names = {*nodes, *self._constants}

    def op(self, op_type: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Add a node with one output, whose name is that of the first input and the operator's."""
        from onnx import helper

        name = output or self._fresh(f"{inputs[0]}/{op_type}")
        self.nodes.append(helper.make_node(op_type, inputs, [name], name=name, **attributes))
        return name

    def const(self, array: Array, name: str) -> str:
        """Add a constant."""
        from onnx import numpy_helper

        name = self._fresh(name)
        self.graph.initializer.append(numpy_helper.from_array(array, name))
        return name

    def value_of(self, name: str) -> Array:
        """The constant that the graph had under this name."""
        from onnx import numpy_helper

        array: Array = numpy_helper.to_array(self._constants[name])
        return array

    def _fresh(self, name: str) -> str:
        count, unique = 1, name
        while unique in self._names:
            count += 1
            unique = f"{name}_{count}"
        self._names.add(unique)
        return unique


def replace_nodes(
    model: onnx.ModelProto, replace: Callable[[onnx.NodeProto, Writer], bool | None]
) -> None:
    """Ask ``replace`` for each node: what it adds to the writer takes the node's place.

    Where it returns False the node stays.
    """
    writer, nodes = Writer(model), []
    for node in model.graph.node:
        writer.nodes = []
        nodes += [node] if replace(node, writer) is False else writer.nodes
    replace_all(model.graph.node, nodes)


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes by name."""
    from onnx import helper

    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def computed(model: onnx.ModelProto) -> set[str]:
    """The names of what the graph's inputs have a part in; the rest are constants."""
    names = {value.name for value in model.graph.input}
    for node in model.graph.node:
        if names.intersection(node.input):
            names.update(node.output)
    return names


def convolved_over_more(model: onnx.ModelProto, axes: int) -> Iterator[Doubt]:
    """The convolutions over more than so many axes."""
    for node in model.graph.node:
        convolves = node.op_type in ("Conv", "ConvTranspose")
        if convolves and len(attributes_of(node)["kernel_shape"]) > axes:
            yield Doubt(node, f"it convolves over {axes} axes at most")


@dataclass(frozen=True)
class Product:
    """A product of one column with weights; another product has made the column.

    ``rows`` is the column's size, 0 if it is open; ``by_one`` says whether the weights of one of
    the two are a single value.
    """

    node: onnx.NodeProto
    rows: int
    by_one: bool


def products_in_a_row(model: onnx.ModelProto) -> Iterator[Product]:
    """Each Gemm or MatMul of one column that another one has made."""
    from onnx import shape_inference

    inferred = shape_inference.infer_shapes(model).graph
    sized = {v.name: v.type.tensor_type.shape.dim for v in (*inferred.value_info, *inferred.output)}
    sizes = {i.name: tuple(i.dims) for i in model.graph.initializer}
    runtime = computed(model)
    made: dict[str, tuple[int, ...]] = {}  # The weights of the product that has made a column.
    for node in model.graph.node:
        if node.op_type == "Transpose" and node.input[0] in sizes:
            sizes[node.output[0]] = sizes[node.input[0]][::-1]
        x = [name for name in node.input if name in runtime]
        if len(x) != 1 or len(node.output) != 1:
            continue  # What has other arrays in it is planned by itself.
        before = made.get(x[0])
        if node.op_type not in ("Gemm", "MatMul"):
            if before is not None:
                made[node.output[0]] = before
            continue
        weight = sizes.get(node.input[1], (0, 0))
        weight = weight[::-1] if attributes_of(node).get("transB") else weight
        if before is not None and weight[0] == 1:
            rows = sized.get(node.output[0])
            yield Product(node, rows[0].dim_value if rows else 0, (1, 1) in (weight, before))
        if weight[1:] == (1,):
            made[node.output[0]] = weight


def convolve_over_two_axes(node: onnx.NodeProto, writer: Writer) -> bool | None:
    """For ``replace_nodes``: a convolution over one axis as one over two, the second of size 1.

    Before: ``y = Conv(x, w)``, x (N, C, L). After: ``y = Squeeze(Conv(Unsqueeze(x),
    Unsqueeze(w)))``, with the axis 3.
    """
    import numpy as np

    given = attributes_of(node)
    if node.op_type not in ("Conv", "ConvTranspose") or len(given["kernel_shape"]) != 1:
        return False
    axis = writer.const(np.array([3]), f"{node.output[0]}/axis")
    for name, more in (
        ("kernel_shape", 1),
        ("strides", 1),
        ("dilations", 1),
        ("output_padding", 0),
    ):
        if name in given:
            given[name] = [*given[name], more]
    if "pads" in given:
        first, last = given["pads"]
        given["pads"] = [first, 0, last, 0]
    x, weight = (writer.op("Unsqueeze", name, axis) for name in node.input[:2])
    y = writer.op(node.op_type, x, weight, *node.input[2:], **given)
    writer.op("Squeeze", y, axis, output=node.output[0])
    return None


def has_empty_windows(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    """Whether a pooling node has windows that lie in the padding of a Pad before it alone."""
    from onnx import numpy_helper

    pad = next((n for n in model.graph.node if node.input[0] in n.output), None)
    if pad is None or pad.op_type != "Pad":
        return False
    (pads,) = (i for i in model.graph.initializer if i.name == pad.input[1])
    kernel: Sequence[int] = attributes_of(node)["kernel_shape"]
    ends = numpy_helper.to_array(pads).reshape(2, -1)[:, -len(kernel) :]
    return bool((ends >= list(kernel)).any())
