"""InfogainLoss: the logistic loss of scores, weighed by a matrix over label and class."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field
from typing import Any

import numpy as np

from caffe2torch.errors import ReadError
from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.blob import read_blob_proto
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    Reads,
    TorchBuilder,
    canonical_axis,
    net_error,
    register_layer,
)
from caffe2torch.layers._loss import (
    LOG_THRESHOLD,
    Loss,
    ignore_label,
    leading_count,
    normalization,
    normalized_onnx,
    pick_onnx,
)


@register_layer()
class InfogainLoss(Loss):
    """loss = sum_k -H[label, k] log(max(softmax(x)[k], 1e-20)) / n (infogain_loss_layer.cpp).

    Bottoms: scores with K classes on ``axis`` (default 1), labels, and H of K * K values,
    unless ``source`` names a binaryproto file with H, relative to the working directory.
    Tops: the summed loss and the probabilities. ``ignore_label`` and n are those of
    SoftmaxWithLoss.
    """

    type = "InfogainLoss"
    reads = Reads(slice(1, None), slice(1, None))  # The second top is what it keeps.
    barred_bottoms = frozenset({1, 2})
    index_bottoms = frozenset({1})
    bottoms = (2, 3)
    tops = (0, 2)

    axis: int
    ignore_label: int | None
    normalization: str
    matrix: FloatArray | None = field(repr=False, compare=False)
    """H from the file; None if it is a bottom."""

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        if proto.loss_param.HasField("normalize"):
            raise net_error(
                proto, "is not for this loss; give loss_param.normalization", "loss_param.normalize"
            )
        return cls(
            name=proto.name,
            num_tops=len(proto.top),
            axis=proto.infogain_loss_param.axis,
            ignore_label=ignore_label(proto),
            normalization=normalization(proto),
            matrix=None if len(proto.bottom) == 3 else _read_matrix(proto),
        )

    def check_bottoms(self, bottoms: Sequence[Shape]) -> None:
        scores, labels = bottoms[:2]
        axis = canonical_axis(self, self.axis, len(scores), "infogain_loss_param.axis")
        if math.prod(labels) != math.prod(scores[:axis] + scores[axis + 1 :]):
            raise self.net_error(
                f"labels of shape {labels} do not match scores of shape {scores} with the classes "
                f"on axis {axis}: there must be one label for each position"
            )
        count = math.prod(bottoms[2]) if self.matrix is None else self.matrix.size
        if count != scores[axis] ** 2:
            raise self.net_error(
                f"the matrix H has {count} values; {scores[axis]} classes need "
                f"{scores[axis]} x {scores[axis]}"
            )

    def top_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        return [(), bottoms[0]]

    def values(self, t: TorchBuilder, inputs: Sequence[Any]) -> Any:
        scores, labels, *matrix = inputs
        matrix = matrix or [scores.new_tensor(self.matrix)]
        options = self.axis, self.ignore_label, self.normalization
        return t.runtime.infogain_loss(scores, labels, *matrix, *options)

    def values_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        shape = g.shape(inputs[0])
        axis = self.axis % len(shape)
        size, class_axis = shape[axis], g.const([axis], np.int64)
        probabilities = g.op("Softmax", inputs[0], axis=axis)
        picked = pick_onnx(g, probabilities, shape, inputs[1], axis, self.ignore_label)
        matrix = inputs[2] if self.matrix is None else g.const(self.matrix)
        matrix = g.op("Reshape", matrix, g.const([size, size], np.int64))
        rows = g.op("Gather", matrix, g.op("Squeeze", picked.labels, class_axis))
        logs = g.op("Log", g.op("Max", probabilities, g.const(LOG_THRESHOLD)))
        last = [a for a in range(len(shape)) if a != axis] + [axis]
        products = g.op("Mul", rows, g.op("Transpose", logs, perm=last))
        losses = g.op("Neg", g.op("ReduceSum", products, g.const([-1], np.int64), keepdims=0))
        valid = picked.valid and g.op("Squeeze", picked.valid, class_axis)
        batch = leading_count(g, inputs[0], axis)
        loss = normalized_onnx(g, losses, valid, self.normalization, batch)
        return [loss, probabilities][: self.num_tops]


def _read_matrix(proto: Message) -> FloatArray:
    source = proto.infogain_loss_param.source
    if not source:
        raise net_error(
            proto,
            "neither a third bottom nor a file gives the matrix H",
            "infogain_loss_param.source",
        )
    try:
        blob = read_blob_proto(source)
    except ReadError as error:
        raise ReadError(
            f"{error.reason}. The matrix H is looked for relative to the working directory.",
            layer=proto.name,
            type=proto.type,
            field="infogain_loss_param.source",
        ) from None
    return np.array(blob.data, np.float32)
