"""HingeLoss: the one-against-all hinge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, register_layer
from caffe2torch.layers._loss import Loss, leading_count
from caffe2torch.layers._onnx import check_constant, to_int


@register_layer()
class HingeLoss(Loss):
    """loss = sum max(0, 1 - s[k] x[k]) ** p / N with s = 1 at the label, else -1.

    Caffe: hinge_loss_layer.cpp. ``norm`` L1 (default): p = 1; L2: p = 2. Bottoms: scores
    (N, K, ..) of up to four axes, whose trailing axes all count as classes, and a label for
    each item.
    """

    type = "HingeLoss"
    index_bottoms = frozenset({1})

    power: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        power = {"L1": 1, "L2": 2}[enum_name(proto.hinge_loss_param, "norm")]
        return cls(name=proto.name, num_tops=len(proto.top), power=power)

    def check_bottoms(self, bottoms: Sequence[Shape]) -> None:
        self.check_legacy_axes(bottoms[0])
        if math.prod(bottoms[1]) < bottoms[0][0]:
            raise self.net_error(f"labels of shape {bottoms[1]}: each item needs one")

    def values(self, t: TorchBuilder, inputs: Sequence[Any]) -> Any:
        return t.runtime.hinge_loss(*inputs, self.power)

    def values_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        shape = g.shape(inputs[0])
        if math.prod(g.shape(inputs[1])) != shape[0]:
            raise self.unsupported("ONNX needs exactly one label for each item")
        check_constant(math.prod(shape[1:]))
        scores = g.op("Flatten", inputs[0], axis=1)
        labels = to_int(g, g.op("Reshape", inputs[1], g.const([-1, 1], np.int64)))
        is_label = g.op("Equal", labels, g.const(range(math.prod(shape[1:])), np.int64))
        sign = g.op("Where", is_label, g.const(-1.0), g.const(1.0))
        margins = g.op("Add", g.op("Mul", sign, scores), g.const(1.0))
        zero = g.const(0.0)  # For NaN too, as Caffe compares.
        margins = g.op("Where", g.op("Greater", margins, zero), margins, zero)
        total = g.op("ReduceSum" if self.power == 1 else "ReduceSumSquare", margins, keepdims=0)
        return [g.op("Div", total, leading_count(g, inputs[0], 1))]
