"""Swish: y = x * sigmoid(beta * x)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Backward, Layer, OnnxBuilder, Reads, TorchBuilder, register_layer
from caffe2torch.layers._elementwise import scale_shift, scale_shift_onnx


@register_layer()
class Swish(Layer):
    """y = x / (1 + exp(-beta * x)) on any shape, beta 1 by default (Caffe: swish_layer.cpp)."""

    type = "Swish"
    reads = Reads(slice(0), slice(None))
    works_in_place = True

    beta: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        return cls(name=proto.name, beta=proto.swish_param.beta)

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return inputs[0] * t.torch.sigmoid(scale_shift(inputs[0], self.beta))

    def gradient(self, t: TorchBuilder, found: Backward) -> Sequence[Any]:
        (diff,), (y,), (x,) = found.diffs, found.tops, found.given
        gate = t.torch.sigmoid(scale_shift(x, self.beta))  # Caffe has kept it.
        return [diff * (self.beta * y + gate * (1 - self.beta * y))]

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        gate = g.op("Sigmoid", scale_shift_onnx(g, inputs[0], self.beta, 0))
        return [g.op("Mul", inputs[0], gate)]
