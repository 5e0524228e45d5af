"""Reduction: the trailing axes become one number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import (
    NOTHING,
    Layer,
    OnnxBuilder,
    Reads,
    TorchBuilder,
    canonical_axis,
    register_layer,
)
from caffe2torch.layers._elementwise import scale_shift, scale_shift_onnx


@register_layer()
class Reduction(Layer):
    """coeff * op(x) over all axes from ``axis`` on (Caffe: reduction_layer.cpp).

    ``operation`` is SUM (default), ASUM (of |x|), SUMSQ (of x^2) or MEAN. The top has the
    axes before ``axis`` (default 0), so by default none at all. ``coeff`` defaults to 1.
    """

    type = "Reduction"

    operation: str
    axis: int
    coeff: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = proto.reduction_param
        operation = enum_name(param, "operation")
        return cls(name=proto.name, operation=operation, axis=param.axis, coeff=param.coeff)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        return [bottoms[0][: self._axis(len(bottoms[0]))]]

    def _axis(self, num_axes: int) -> int:
        return canonical_axis(self, self.axis, num_axes, "reduction_param.axis")

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        x = t.torch.flatten(inputs[0], self._axis(len(bottoms[0])))
        if self.operation == "MEAN":
            return scale_shift(t.torch.mean(x, dim=-1), self.coeff)
        if self.operation == "ASUM":
            x = t.torch.abs(x)
        elif self.operation == "SUMSQ":
            x = t.torch.square(x)
        return scale_shift(t.torch.sum(x, dim=-1), self.coeff)

    def backward_reads(self, in_place: bool) -> Reads:
        return NOTHING if self.operation in ("SUM", "MEAN") else Reads()

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        num_axes = len(g.shape(inputs[0]))
        first = self._axis(num_axes)
        # All axes are left unsaid: where they are said OpenCV 5.0 cannot read what follows.
        axes = list(range(first, num_axes)) if first else []
        if self.operation in ("SUM", "ASUM"):
            # OpenVINO keeps an axis of ReduceL1, even where it should not.
            x = g.op("Abs", inputs[0]) if self.operation == "ASUM" else inputs[0]
            over = [g.const(axes, np.int64)] if axes else []
            y = g.op("ReduceSum", x, *over, keepdims=0)
        else:
            op_type = {"SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}[self.operation]
            said: dict[str, Any] = {"axes": axes} if axes else {}
            y = g.op(op_type, inputs[0], keepdims=0, **said)
        return [scale_shift_onnx(g, y, self.coeff, 0)]
