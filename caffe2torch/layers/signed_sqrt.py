"""SignedSqrt: the square root of each number's size, with its sign."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.layers import Backward, Layer, OnnxBuilder, Reads, TorchBuilder, register_layer

EPS = 0.03
"""What the fork adds to |y| before it divides by it in the backward pass."""


@register_layer()
class SignedSqrt(Layer):
    """y = sqrt(x), of negative numbers -sqrt(-x), elementwise on any shape.

    Fork: gy20073/compact_bilinear_pooling, signed_sqrt_layer.cpp. Its gradient is
    0.5 / (|y| + 0.03). Errors: a top with the bottom's name.
    """

    type = "SignedSqrt"
    reads = Reads(slice(0), slice(None), always=True)

    def gradient(self, t: TorchBuilder, found: Backward) -> Sequence[Any]:
        return [found.diffs[0] / (found.tops[0].abs() + EPS) * 0.5]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        (x,) = inputs
        return t.torch.sign(x) * t.torch.sqrt(t.torch.abs(x))

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        (x,) = inputs
        return [g.op("Mul", g.op("Sign", x), g.op("Sqrt", g.op("Abs", x)))]
