"""SigmoidCrossEntropyLoss: the logistic loss of independent targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, register_layer
from caffe2torch.layers._loss import (
    Loss,
    ignore_label,
    leading_count,
    normalization,
    normalized_onnx,
)
from caffe2torch.layers._onnx import to_float, to_int


@register_layer()
class SigmoidCrossEntropyLoss(Loss):
    """loss = sum -(t log s(x) + (1 - t) log(1 - s(x))) / n, s the sigmoid.

    Caffe: sigmoid_cross_entropy_loss_layer.cpp. Bottoms: scores and targets, of as many
    values and the same first size. Targets that are ``ignore_label`` after their fraction is
    cut off do not count. n by ``normalization``: BATCH_SIZE (default) the first size, VALID
    the values that count, FULL all, NONE 1; at least 1.
    """

    type = "SigmoidCrossEntropyLoss"

    ignore_label: int | None
    normalization: str

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        return cls(
            name=proto.name,
            num_tops=len(proto.top),
            ignore_label=ignore_label(proto),
            normalization=normalization(proto, default="BATCH_SIZE"),
        )

    def check_bottoms(self, bottoms: Sequence[Shape]) -> None:
        if math.prod(bottoms[0]) != math.prod(bottoms[1]):
            raise self.net_error(
                f"the bottoms' shapes {bottoms[0]} and {bottoms[1]} must have as many values"
            )

    def values(self, t: TorchBuilder, inputs: Sequence[Any]) -> Any:
        scores, targets = inputs
        if self.non_finite:  # Caffe's formula makes NaN of infinity, whatever the target.
            scores = scores + (scores - scores)
        options = self.ignore_label, self.normalization
        return t.runtime.sigmoid_cross_entropy_loss(scores, targets, *options)

    def values_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        scores, targets = inputs
        if self.non_finite:
            scores = g.op("Add", scores, g.op("Sub", scores, scores))
        if g.shape(scores) != g.shape(targets):
            targets = g.op("Reshape", targets, g.op("Shape", scores))
        softplus = g.op("Softplus", g.op("Neg", g.op("Abs", scores)))
        losses = g.op("Sub", g.op("Relu", scores), g.op("Mul", scores, targets))
        losses = g.op("Add", softplus, losses)
        valid = ""
        if self.ignore_label is not None:
            ignored = g.op("Equal", to_int(g, targets), g.const(self.ignore_label, np.int64))
            valid = to_float(g, g.op("Not", ignored))
        batch = leading_count(g, scores, 1)
        return [normalized_onnx(g, losses, valid, self.normalization, batch)]
