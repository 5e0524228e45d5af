"""The Python layer of SEC and DSRG: a softmax with no probability near 0."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, register_layer
from caffe2torch.layers._spatial import require_axes

LEAST = 0.0001
"""What is added to each probability: min_prob of both programs."""


@register_layer("Python pylayers.SoftmaxLayer")
class SoftmaxLayer(Layer):
    """y = (s + 1e-4) / sum of (s + 1e-4), s = softmax(x) along the channels of (N, C, H, W).

    kolesman/SEC and speedinghzl/DSRG, pylayers.py. Errors: not four axes.
    """

    type = "Python pylayers.SoftmaxLayer"

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        require_axes(self, bottoms[0])
        return [bottoms[0]]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return (t.F.softmax(inputs[0], 1) + LEAST) / (1 + LEAST * bottoms[0][1])

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        y = g.op("Add", g.op("Softmax", inputs[0], axis=1), g.const(LEAST))
        return [g.op("Div", y, g.op("ReduceSum", y, g.const([1], "int64"), keepdims=1))]
