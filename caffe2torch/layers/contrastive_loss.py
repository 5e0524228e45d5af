"""ContrastiveLoss: pulls pairs of like items together and pushes others apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, register_layer
from caffe2torch.layers._loss import Loss, leading_count
from caffe2torch.layers._onnx import to_int


@register_layer()
class ContrastiveLoss(Loss):
    """loss = sum (y d ** 2 + (1 - y) max(margin - d, 0) ** 2) / (2 N), d = |a - b|.

    Caffe: contrastive_loss_layer.cpp. ``legacy_version`` has max(margin - d ** 2, 0) in place
    of the second term; ``margin`` defaults to 1. Bottoms: a and b (N, C), and y for each
    item: a pair is alike if y without its fraction is not 0.
    """

    type = "ContrastiveLoss"
    barred_bottoms = frozenset()
    unforced_bottoms = frozenset({2})
    bottoms = (3, 3)

    margin: float
    legacy_version: bool

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = proto.contrastive_loss_param
        return cls(
            name=proto.name,
            num_tops=len(proto.top),
            margin=param.margin,
            legacy_version=param.legacy_version,
        )

    def check_bottoms(self, bottoms: Sequence[Shape]) -> None:
        a, b, y = bottoms
        for shape in (a, b):
            self.check_legacy_axes(shape)
            if any(size != 1 for size in shape[2:]):
                raise self.net_error(f"a bottom of shape {shape} must be (N, C)")
        if math.prod(a) != math.prod(b):
            raise self.net_error(f"the bottoms' shapes {a} and {b} must have as many channels")
        self.check_column(y, "y")
        if y[:1] != a[:1]:
            raise self.net_error(f"y of shape {y} must have {a[0]} values, one for each pair")

    def values(self, t: TorchBuilder, inputs: Sequence[Any]) -> Any:
        return t.runtime.contrastive_loss(*inputs, self.margin, self.legacy_version)

    def values_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        a, b = (g.op("Flatten", value, axis=1) for value in inputs[:2])
        squares = g.op("ReduceSumSquare", g.op("Sub", a, b), axes=[1], keepdims=0)
        distance = squares if self.legacy_version else g.op("Sqrt", squares)
        apart = g.op("Relu", g.op("Sub", g.const(self.margin), distance))
        if not self.legacy_version:
            apart = g.op("Mul", apart, apart)
        labels = to_int(g, g.op("Reshape", inputs[2], g.const([-1], np.int64)))
        losses = g.op("Where", g.op("Equal", labels, g.const(0, np.int64)), apart, squares)
        total = g.op("ReduceSum", losses, keepdims=0)
        return [g.op("Div", total, g.op("Mul", leading_count(g, inputs[0], 1), g.const(2.0)))]
