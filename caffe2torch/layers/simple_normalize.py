"""SimpleNormalize: each item of a batch at length one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, register_layer
from caffe2torch.layers._broadcast import trailing


@register_layer()
class SimpleNormalize(Layer):
    """y = x / sqrt(sum(x ** 2)) with the sum over an item; NaN for an item of zeros.

    Fork: yuqj1991/caffe_train, simplenormalize_layer.cpp. Bottoms have up to four axes; the top has
    four, those that a bottom lacks are 1.
    """

    type = "SimpleNormalize"

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (shape,) = bottoms
        if not 1 <= len(shape) <= 4:
            raise self.net_error(f"a bottom of shape {shape} must have one to four axes")
        return [(*shape, 1, 1, 1)[:4]]

    def keeps_finite(self, bottoms: Sequence[Shape]) -> bool:
        return False

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        (x,) = inputs
        axes = list(range(1, len(bottoms[0])))
        norm = t.torch.linalg.vector_norm(x, dim=axes, keepdim=True) if axes else t.torch.abs(x)
        return trailing(x / norm, 4 - len(bottoms[0]))

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        (x,) = inputs
        num_axes = len(g.shape(x))
        axes = list(range(1, num_axes))
        norm = g.op("ReduceL2", x, axes=axes, keepdims=1) if axes else g.op("Abs", x)
        y = g.op("Div", x, norm)
        if num_axes == 4:
            return [y]
        return [g.op("Reshape", y, g.const([*[0] * num_axes, *[1] * (4 - num_axes)], np.int64))]
