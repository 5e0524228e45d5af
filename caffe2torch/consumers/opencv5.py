"""The ONNX reader of OpenCV 5's ``dnn`` module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from caffe2torch.consumers import Consumer, Doubt, register_consumer

if TYPE_CHECKING:
    import onnx

    from caffe2torch.graph import Array, FloatArray, Shape


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

    def version(self) -> str | None:
        try:
            import cv2
        except ImportError:
            return None
        version = str(cv2.__version__)
        return version if int(version.split(".")[0]) == self.major else None

    def rewrite(self, model: onnx.ModelProto) -> None:
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

    def doubts(self, model: onnx.ModelProto) -> Iterator[Doubt]:
        yield from super().doubts(model)
        for node, *_ in _copying(model):
            yield Doubt(node, "it leaves out the Reshape before, whose sizes this one copies")

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
