"""SoftmaxWithLoss: the multinomial logistic loss of scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    TorchBuilder,
    canonical_axis,
    register_layer,
)
from caffe2torch.layers._loss import (
    FLT_MIN,
    Loss,
    ignore_label,
    leading_count,
    normalization,
    normalized_onnx,
    pick_onnx,
)


@register_layer()
class SoftmaxWithLoss(Loss):
    """loss = sum -log(max(softmax(x)[label], FLT_MIN)) / n (Caffe: softmax_loss_layer.cpp).

    Bottoms: scores, with the classes on ``softmax_param.axis`` (default 1), and as many
    labels as there are positions on the other axes. Top: the loss. Caffe's class names a second
    one, the probabilities, but its SetUp ends the process with it, whatever ``loss_weight`` says:
    a Softmax layer gives them.

    Positions of label ``ignore_label`` do not count. n by ``normalization``: VALID (default)
    the positions that count, FULL all, BATCH_SIZE the sizes before the axis, NONE 1; at
    least 1. The older ``normalize`` false means BATCH_SIZE.
    """

    type = "SoftmaxWithLoss"
    index_bottoms = frozenset({1})

    axis: int
    ignore_label: int | None
    normalization: str

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        return cls(
            name=proto.name,
            num_tops=len(proto.top),
            axis=proto.softmax_param.axis,
            ignore_label=ignore_label(proto),
            normalization=normalization(proto),
        )

    def check_bottoms(self, bottoms: Sequence[Shape]) -> None:
        scores, labels = bottoms[:2]
        axis = canonical_axis(self, self.axis, len(scores), "softmax_param.axis")
        if math.prod(labels) != math.prod(scores[:axis] + scores[axis + 1 :]):
            raise self.net_error(
                f"labels of shape {labels} do not match scores of shape {scores} with the classes "
                f"on axis {axis}: there must be one label for each position"
            )

    def values(self, t: TorchBuilder, inputs: Sequence[Any]) -> Any:
        options = self.axis, self.ignore_label, self.normalization
        return t.runtime.softmax_with_loss(*inputs, *options)

    def values_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        scores, labels = inputs
        shape = g.shape(scores)
        axis = self.axis % len(shape)
        probabilities = g.op("Softmax", scores, axis=axis)
        picked = pick_onnx(g, probabilities, shape, labels, axis, self.ignore_label)
        losses = g.op("Neg", g.op("Log", g.op("Max", picked.values, g.const(FLT_MIN))))
        batch = leading_count(g, scores, axis)
        return [normalized_onnx(g, losses, picked.valid, self.normalization, batch)]
