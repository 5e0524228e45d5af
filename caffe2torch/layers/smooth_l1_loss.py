"""SmoothL1Loss: the box regression loss of Fast R-CNN and SSD."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, register_layer
from caffe2torch.layers._loss import Loss, leading_count


@register_layer()
class SmoothL1Loss(Loss):
    """loss = sum w_out f(w_in (a - b)) / N (smooth_l1_loss_layer.cpp of Fast R-CNN and SSD).

    f(d) = d ** 2 / 2 where abs(d) < 1, else abs(d) - 1 / 2. Bottoms of one shape: a, b and,
    if there are, w_in and w_out. Fast R-CNN's ``sigma`` is refused as an unknown parameter.
    """

    type = "SmoothL1Loss"
    barred_bottoms = frozenset()
    unforced_bottoms = frozenset()
    bottoms = (2, 4)

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        return cls(name=proto.name, num_tops=len(proto.top))

    def check_bottoms(self, bottoms: Sequence[Shape]) -> None:
        self.check_legacy_axes(bottoms[0])
        if any(math.prod(b) != math.prod(bottoms[0]) for b in bottoms):
            raise self.net_error(
                f"the bottoms' shapes {', '.join(map(str, bottoms))} must have as many values"
            )

    def values(self, t: TorchBuilder, inputs: Sequence[Any]) -> Any:
        return t.runtime.smooth_l1_loss(*inputs)

    def values_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        a, b, *weights = (g.op("Flatten", value, axis=1) for value in inputs)
        difference = g.op("Sub", a, b)
        if weights:
            difference = g.op("Mul", difference, weights[0])
        size, half = g.op("Abs", difference), g.const(0.5)
        quadratic, linear = g.op("Mul", g.op("Mul", size, size), half), g.op("Sub", size, half)
        losses = g.op("Where", g.op("Less", size, g.const(1.0)), quadratic, linear)
        if len(weights) == 2:
            losses = g.op("Mul", losses, weights[1])
        total = g.op("ReduceSum", losses, keepdims=0)
        return [g.op("Div", total, leading_count(g, inputs[0], 1))]
