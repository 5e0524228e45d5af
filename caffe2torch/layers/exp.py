"""Exp: y = base ^ (shift + scale * x)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Backward, Layer, OnnxBuilder, Reads, TorchBuilder, register_layer
from caffe2torch.layers._elementwise import log_of_base, scale_shift, scale_shift_onnx


@register_layer()
class Exp(Layer):
    """y = base ^ (shift + scale * x) on any shape (Caffe: exp_layer.cpp).

    ``base`` defaults to -1, which stands for e, and must be positive otherwise; ``scale``
    defaults to 1 and ``shift`` to 0. Held as y = outer * exp(inner * x).
    """

    type = "Exp"
    reads = Reads(slice(0), slice(None))
    works_in_place = True

    inner: float
    outer: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = proto.exp_param
        log_base = log_of_base(proto, param.base, "exp_param.base")
        with np.errstate(over="ignore"):
            outer = float(np.exp(np.float64(log_base * param.shift)))
        return cls(name=proto.name, inner=log_base * param.scale, outer=outer)

    def keeps_finite(self, bottoms: Sequence[Shape]) -> bool:
        return False

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        y = t.torch.exp(scale_shift(inputs[0], self.inner))
        return scale_shift(y, self.outer)

    def gradient(self, t: TorchBuilder, found: Backward) -> Sequence[Any]:
        return [found.diffs[0] * found.tops[0] * self.inner]

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        y = g.op("Exp", scale_shift_onnx(g, inputs[0], self.inner, 0))
        return [scale_shift_onnx(g, y, self.outer, 0)]
