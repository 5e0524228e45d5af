"""Accuracy: the share of positions whose label is among the best classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    Role,
    TorchBuilder,
    canonical_axis,
    register_layer,
)
from caffe2torch.layers._loss import pick_onnx
from caffe2torch.layers._onnx import check_constant, to_float


@register_layer()
class Accuracy(Layer):
    """The share of positions with fewer than ``top_k`` other scores >= that of the label.

    Caffe: accuracy_layer.cpp. Ties count against the label. Bottoms: scores, with the
    classes on ``axis`` (default 1), and one label for each position on the other axes. Tops:
    the accuracy, and that of each class (C). Positions of label ``ignore_label`` do not
    count; without any position the accuracy is 0. ``top_k`` (default 1) is at most the
    number of classes.
    """

    type = "Accuracy"
    barred_bottoms = frozenset({0, 1})
    index_bottoms = frozenset({1})
    role = Role.LOSS
    bottoms = (2, 2)
    tops = (1, 2)

    top_k: int
    axis: int
    ignore_label: int | None
    num_tops: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = proto.accuracy_param
        return cls(
            name=proto.name,
            top_k=param.top_k,
            axis=param.axis,
            ignore_label=param.ignore_label if param.HasField("ignore_label") else None,
            num_tops=len(proto.top),
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        scores, labels = bottoms
        axis = canonical_axis(self, self.axis, len(scores), "accuracy_param.axis")
        if math.prod(labels) != math.prod(scores[:axis] + scores[axis + 1 :]):
            raise self.net_error(
                f"labels of shape {labels} do not match scores of shape {scores} with the classes "
                f"on axis {axis}: there must be one label for each position"
            )
        if self.top_k > scores[axis]:
            raise self.net_error(
                f"{self.top_k} exceeds the number of classes, {scores[axis]}",
                "accuracy_param.top_k",
            )
        return [(), (scores[axis],)][: self.num_tops]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        shares = t.runtime.accuracy(*inputs, self.axis, self.top_k, self.ignore_label)
        return shares[0] if self.num_tops == 1 else shares

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        scores, labels = inputs
        shape = g.shape(scores)
        axis, one = self.axis % len(shape), g.const(1.0)
        picked = pick_onnx(g, scores, shape, labels, axis, self.ignore_label)
        at_least = to_float(g, g.op("GreaterOrEqual", scores, picked.values))
        better = g.op("ReduceSum", at_least, g.const([axis], np.int64))
        hits = to_float(g, g.op("LessOrEqual", better, g.const(self.top_k)))
        counted = picked.valid or g.op("Add", g.op("Sub", hits, hits), one)
        hits = g.op("Mul", hits, counted)
        accuracy = _ratio(g, hits, counted, one, None)
        if self.num_tops == 1:
            return [accuracy]
        check_constant(shape[axis])
        classes = np.arange(shape[axis]).reshape([-1] + [1] * (len(shape) - 1 - axis))
        of_class = to_float(g, g.op("Equal", picked.labels, g.const(classes, np.int64)))
        others = g.const([a for a in range(len(shape)) if a != axis], np.int64)
        hits, counted = g.op("Mul", hits, of_class), g.op("Mul", counted, of_class)
        return [accuracy, _ratio(g, hits, counted, one, others)]


def _ratio(g: OnnxBuilder, hits: str, counted: str, one: str, axes: str | None) -> str:
    over = () if axes is None else (axes,)
    total, count = (g.op("ReduceSum", value, *over, keepdims=0) for value in (hits, counted))
    return str(g.op("Div", total, g.op("Max", count, one)))
