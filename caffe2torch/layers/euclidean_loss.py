"""EuclideanLoss: half the squared distance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import register_layer
from caffe2torch.layers._base import OnnxBuilder, SourceBuilder
from caffe2torch.layers._loss import Loss, leading_count
from caffe2torch.layers._python import call

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self


@register_layer()
@dataclass(frozen=True)
class EuclideanLoss(Loss):
    """loss = sum (a - b) ** 2 / (2 N) (Caffe: euclidean_loss_layer.cpp).

    Two bottoms of up to four axes, with N items of equally many values each.
    """

    type = "EuclideanLoss"

    @classmethod
    def from_proto(cls, proto: Message) -> Self:
        return cls(name=proto.name, num_tops=len(proto.top))

    def check_bottoms(self, bottoms: Sequence[Shape]) -> None:
        self.check_legacy_axes(bottoms[0])
        if math.prod(bottoms[0]) != math.prod(bottoms[1]):
            raise self.net_error(
                f"the bottoms' shapes {bottoms[0]} and {bottoms[1]} must have as many values"
            )

    def values(self, inputs: Sequence[Tensor]) -> Sequence[Tensor]:
        from caffe2torch.layers._runtime import losses

        return [losses.euclidean_loss(*inputs)]

    def values_source(self, s: SourceBuilder, inputs: Sequence[str]) -> str:
        return call(s.use("euclidean_loss"), *inputs)

    def values_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        a, b = inputs
        if g.shape(a) != g.shape(b):
            b = g.op("Reshape", b, g.op("Shape", a))
        total = g.op("ReduceSumSquare", g.op("Sub", a, b), keepdims=0)
        return [g.op("Div", total, g.op("Mul", leading_count(g, a, 1), g.const(2.0)))]
