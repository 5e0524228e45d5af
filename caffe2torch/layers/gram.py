"""Gram: the products of an image's channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, register_layer
from caffe2torch.layers._spatial import require_axes


@register_layer()
class Gram(Layer):
    """y[n, i, j] = sum over p of x[n, i, p] x[n, j, p] / (H W C), for x (N, C, H, W).

    Fork: happynear/caffe-windows, gram_layer.cpp. Top (N, C, C, 1). Errors: not four axes.
    """

    type = "Gram"

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        require_axes(self, bottoms[0])
        batch, channels, *_ = bottoms[0]
        return [(batch, channels, channels, 1)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.runtime.gram(inputs[0])

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        _, channels, height, width = g.shape(inputs[0])
        x = g.op("Reshape", inputs[0], g.const([0, 0, -1], np.int64))
        y = g.op("MatMul", x, g.op("Transpose", x, perm=[0, 2, 1]))
        y = g.op("Div", y, g.const(float(channels * height * width)))
        return [g.op("Unsqueeze", y, g.const([3], np.int64))]

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        batch, channels, height, width = bottoms[0]
        return batch * channels**2 * height * width
