"""EuclideanDistance: how far points are apart, in the mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.layers import NOTHING, Layer, OnnxBuilder, TorchBuilder, register_layer


@register_layer()
class EuclideanDistance(Layer):
    """The mean of sqrt(sum of (a - b)^2) over points of three channels each, as (1, 1, 1, 1).

    Fork: cbfinn/caffe, euclidean_distance_layer.cpp. Bottoms a and b of one shape, (N, C) or
    (N, C, 1, 1); one or two channels beyond the last point do not count. There is no
    gradient. Errors: other shapes, fewer than three channels.
    """

    type = "EuclideanDistance"
    bottoms = (2, 2)
    reads = NOTHING
    barred_bottoms = frozenset({0, 1})

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        first, second = ((*shape, 1, 1, 1)[:4] for shape in bottoms)
        if first != second or first[2:] != (1, 1) or first[1] < 3:
            raise self.net_error(f"bottoms of shapes {list(bottoms)} are not both (N, C, 1, 1)")
        return [(1, 1, 1, 1)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.runtime.mean_distance(*inputs)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        channels = g.shape(inputs[0])[1]
        flat = g.const([0, channels], np.int64)
        first, second = (g.op("Reshape", x, flat) for x in inputs)
        used = g.const(np.arange(channels // 3 * 3), np.int64)
        apart = g.op("Gather", g.op("Sub", first, second), used, axis=1)
        points = g.op("Reshape", apart, g.const([0, -1, 3], np.int64))
        lengths = g.op("ReduceL2", points, axes=[2], keepdims=1)
        mean = g.op("ReduceMean", lengths, axes=[0, 1], keepdims=1)
        return [g.op("Reshape", mean, g.const([1, 1, 1, 1], np.int64))]
