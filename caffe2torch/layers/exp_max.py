"""ExpMax: exponentials of what is below the largest channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Backward,
    Layer,
    OnnxBuilder,
    Parameters,
    Reads,
    TorchBuilder,
    register_layer,
)
from caffe2torch.layers._elementwise import log_of_base, scale_shift, scale_shift_onnx
from caffe2torch.layers._spatial import require_axes


@register_layer()
class ExpMax(Layer):
    """y = base ^ (shift + scale * (x - m)), m the largest channel of each pixel of x (N, C, H, W).

    Fork: twhui/LiteFlowNet, expmax_layer.cu. Of a batch it finds m for the first item alone; m is 0
    for the others. ``base`` defaults to -1, which stands for e, and must be positive otherwise;
    ``scale`` defaults to 1 and ``shift`` to 0. The gradient leaves m out of account. Errors: not
    four axes.
    """

    type = "ExpMax"
    reads = Reads(slice(0), slice(None), always=True)
    works_in_place = True
    parameters = Parameters(
        "expmax_param",
        """
        optional float base = 1 [default = -1];
        optional float scale = 2 [default = 1];
        optional float shift = 3 [default = 0];
        """,
    )

    inner: float
    outer: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        log_base = log_of_base(proto, param.base, "expmax_param.base")
        with np.errstate(over="ignore"):
            outer = float(np.exp(np.float64(log_base * param.shift)))
        return cls(name=proto.name, inner=log_base * param.scale, outer=outer)

    def keeps_finite(self, bottoms: Sequence[Shape]) -> bool:
        return False

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        require_axes(self, bottoms[0])
        return [bottoms[0]]

    def gradient(self, t: TorchBuilder, found: Backward) -> Sequence[Any]:
        return [found.diffs[0] * found.tops[0] * self.inner]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        x = t.runtime.below_largest_channel(inputs[0])
        return scale_shift(t.torch.exp(scale_shift(x, self.inner)), self.outer)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        (x,) = inputs
        at, end = g.const([1], np.int64), g.const([2**31 - 1], np.int64)
        first = g.op("Slice", x, g.const([0], np.int64), at)
        others = g.op("Slice", x, at, end)
        below = g.op("Sub", first, g.op("ReduceMax", first, axes=[1], keepdims=1))
        x = g.op("Concat", below, others, axis=0)
        y = g.op("Exp", scale_shift_onnx(g, x, self.inner, 0))
        return [scale_shift_onnx(g, y, self.outer, 0)]
