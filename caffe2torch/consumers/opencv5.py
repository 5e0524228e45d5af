"""The ONNX reader of OpenCV 5's ``dnn`` module."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caffe2torch.consumers import Consumer, Doubt, register_consumer

if TYPE_CHECKING:
    import onnx

    from caffe2torch.consumers._rewriting import Writer
    from caffe2torch.graph import Array, FloatArray, Shape

WINDOWED = ("AveragePool", "Conv", "ConvTranspose", "MaxPool")
"""What OpenCV cannot compute when it reads a net, as it does with what no input has a part in."""


@register_consumer("opencv5")
class OpenCV5(Consumer):
    """Its arrays have an axis at least: a scalar comes as (1,)."""

    major = 5
    title = "OpenCV 5"
    packages = ("opencv-python-headless==5.0.0.93",)
    source = "what OpenCV 5.0 was measured to read"
    load = 'cv2.dnn.readNetFromONNX("net.onnx")'
    avoid = (
        "Do not run a net with DetectionOutput twice, but read it anew for each image: OpenCV 5.0 "
        "keeps the number of boxes of the first run, and fails or leaves boxes out."
    )
    avoid_with = "NonMaxSuppression"

    def version(self) -> str | None:
        try:
            import cv2
        except ImportError:
            return None
        version = str(cv2.__version__)
        return version if int(version.split(".")[0]) == self.major else None

    def rewrite(self, model: onnx.ModelProto) -> None:
        from caffe2torch.consumers._rewriting import computed, replace_nodes

        _say_sizes(model)
        runtime = computed(model)
        made = {name for node in model.graph.node for name in node.output}
        replace_nodes(model, lambda node, writer: _unsqueeze_by_one(node, runtime, writer))
        replace_nodes(model, lambda node, writer: _prelu_of_parts(node, made, writer))

    def doubts(self, model: onnx.ModelProto) -> Iterator[Doubt]:
        from caffe2torch.consumers._rewriting import computed, convolved_over_more

        yield from super().doubts(model)
        for node, *_ in _copying(model):
            yield Doubt(node, "it leaves out the Reshape before, whose sizes this one copies")
        runtime = computed(model)
        for node in model.graph.node:
            if node.op_type in WINDOWED and node.input[0] not in runtime:
                yield Doubt(node, "it cannot compute that of a constant")
        yield from convolved_over_more(model, 3)

    def run(
        self, model: Path, inputs: Mapping[str, FloatArray], outputs: Mapping[str, Shape]
    ) -> Mapping[str, Array]:
        import cv2

        cv2.setNumThreads(1)
        net = cv2.dnn.readNetFromONNX(str(model))
        for name, array in inputs.items():
            net.setInput(array, name)
        found = dict(zip(outputs, net.forward(list(outputs)), strict=True))
        return {
            name: value.reshape(()) if outputs[name] == () and value.shape == (1,) else value
            for name, value in found.items()
        }


def _unsqueeze_by_one(node: onnx.NodeProto, runtime: Container[str], writer: Writer) -> bool | None:
    """For ``replace_nodes``: add one axis after another; OpenCV adds several to constants alone.

    Before: ``Unsqueeze(x, [1, 2])``. After: ``Unsqueeze(Unsqueeze(x, [1]), [2])``.
    """
    if node.op_type != "Unsqueeze" or node.input[0] not in runtime:
        return False
    axes = writer.value_of(node.input[1])
    if len(axes) == 1 or (axes < 0).any():
        return False
    x = node.input[0]
    for axis in np.sort(axes):
        said = writer.const(np.array([axis]), f"{node.output[0]}/axis")
        x = writer.op("Unsqueeze", x, said, output=node.output[0] if axis == axes.max() else None)
    return None


def _prelu_of_parts(node: onnx.NodeProto, made: Container[str], writer: Writer) -> bool | None:
    """For ``replace_nodes``: a PRelu whose slopes a node makes, of its parts.

    OpenCV 5.0 writes over other arrays then: what is wrong is what other layers compute.
    Before: ``PRelu(x, s)``. After: ``Relu(x) + s * Min(x, 0)``.
    """
    if node.op_type != "PRelu" or node.input[1] not in made:
        return False
    zero = writer.const(np.array(0, np.float32), f"{node.output[0]}/zero")
    below = writer.op("Mul", node.input[1], writer.op("Min", node.input[0], zero))
    writer.op("Add", writer.op("Relu", node.input[0]), below, output=node.output[0])
    return None


def _say_sizes(model: onnx.ModelProto) -> None:
    """Say the sizes that a Reshape copies (0) from another one.

    OpenCV leaves the first out, and then copies the sizes before it.
    Before: ``Reshape(Reshape(x, [5, 1, 14]), [0, -1])``. After: the second is [5, -1].
    """
    from onnx import numpy_helper

    for node, shape, before in list(_copying(model)):
        said = shape.copy()
        for axis in np.flatnonzero(shape == 0):
            said[axis] = before[axis]
        opened = np.flatnonzero(said < 0)
        if len(opened) == 2 and (before != 0).all():  # The one that was open is what is left.
            rest = before[before > 0].prod() // said[said > 0].prod()
            said[opened[shape[opened] == -1]] = rest
        if (said < 0).sum() > 1:
            continue  # Refused below.
        name = f"{node.output[0]}/sizes"
        model.graph.initializer.append(numpy_helper.from_array(said, name))
        node.input[1] = name


def _copying(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, Array, Array]]:
    """Each Reshape that copies a size which the Reshape before it has made, and both shapes."""
    from onnx import numpy_helper

    constants = {i.name: i for i in model.graph.initializer if i.data_type == i.INT64}
    made: dict[str, Array] = {}
    for node in model.graph.node:
        if node.op_type != "Reshape" or node.input[1] not in constants:
            continue
        shape = numpy_helper.to_array(constants[node.input[1]])
        before = made.get(node.input[0])
        made[node.output[0]] = shape
        if before is not None and any(n == 0 != b for n, b in zip(shape, before, strict=False)):
            yield node, shape, before
