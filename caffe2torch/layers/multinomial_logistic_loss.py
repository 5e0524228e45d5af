"""MultinomialLogisticLoss: the logistic loss of probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, OnnxBuilder, Reads, TorchBuilder, register_layer
from caffe2torch.layers._loss import (
    LOG_THRESHOLD,
    Loss,
    leading_count,
    normalized_onnx,
    pick_onnx,
)


@register_layer()
class MultinomialLogisticLoss(Loss):
    """loss = sum -log(max(p[label], 1e-20)) / N (Caffe: multinomial_logistic_loss_layer.cpp).

    Bottoms: probabilities (N, K, ..) of up to four axes, whose trailing axes all count as
    classes, and one label for each item.
    """

    type = "MultinomialLogisticLoss"
    reads = Reads()
    index_bottoms = frozenset({1})

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        return cls(name=proto.name, num_tops=len(proto.top))

    def check_bottoms(self, bottoms: Sequence[Shape]) -> None:
        self.check_legacy_axes(bottoms[0])
        self.check_column(bottoms[1], "a label")

    def values(self, t: TorchBuilder, inputs: Sequence[Any]) -> Any:
        return t.runtime.multinomial_logistic_loss(*inputs)

    def values_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        shape = g.shape(inputs[0])
        rows, row_shape = g.op("Flatten", inputs[0], axis=1), (shape[0], math.prod(shape[1:]))
        picked = pick_onnx(g, rows, row_shape, inputs[1], 1, None)
        losses = g.op("Neg", g.op("Log", g.op("Max", picked.values, g.const(LOG_THRESHOLD))))
        return [normalized_onnx(g, losses, "", "BATCH_SIZE", leading_count(g, inputs[0], 1))]
