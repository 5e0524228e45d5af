"""EuclideanLoss: half the squared distance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import NOTHING, Layer, OnnxBuilder, TorchBuilder, register_layer
from caffe2torch.layers._loss import Loss, leading_count


@register_layer()
class EuclideanLoss(Loss):
    """loss = sum (a - b) ** 2 / (2 N) (Caffe: euclidean_loss_layer.cpp).

    Two bottoms of up to four axes, with N items of equally many values each.
    """

    type = "EuclideanLoss"
    reads = NOTHING
    barred_bottoms = frozenset()
    unforced_bottoms = frozenset()

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        return cls(name=proto.name, num_tops=len(proto.top))

    def check_bottoms(self, bottoms: Sequence[Shape]) -> None:
        self.check_legacy_axes(bottoms[0])
        if math.prod(bottoms[0]) != math.prod(bottoms[1]):
            raise self.net_error(
                f"the bottoms' shapes {bottoms[0]} and {bottoms[1]} must have as many values"
            )

    def values(self, t: TorchBuilder, inputs: Sequence[Any]) -> Any:
        return t.runtime.euclidean_loss(*inputs)

    def values_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        a, b = inputs
        if g.shape(a) != g.shape(b):
            b = g.op("Reshape", b, g.op("Shape", a))
        total = g.op("ReduceSumSquare", g.op("Sub", a, b), keepdims=0)
        return [g.op("Div", total, g.op("Mul", leading_count(g, a, 1), g.const(2.0)))]
