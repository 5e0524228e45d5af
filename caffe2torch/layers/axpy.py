"""Axpy: y = a * x + z with one factor a channel (SENet)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, register_layer
from caffe2torch.layers._broadcast import trailing


@register_layer()
class Axpy(Layer):
    """y[n, c, ..] = a[n, c] * x[n, c, ..] + z[n, c, ..] (SENet: axpy_layer.cpp).

    Bottoms: a (N, C) or (N, C, 1, 1), then x and z (N, C, ..) of the same shape.
    """

    type = "Axpy"
    bottoms = (3, 3)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        a, x, z = bottoms
        if len(x) < 2 or a[:2] != x[:2] or prod(a) != prod(x[:2]):
            raise self.net_error(
                f"bottom 0 of shape {a} does not have one factor for each channel of "
                f"bottom 1 of shape {x}"
            )
        if x != z:
            raise self.net_error(f"bottoms 1 and 2 have shapes {x} and {z}; they must be equal")
        return [x]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        a, x, z = inputs
        if len(bottoms[0]) != len(bottoms[1]):
            a = t.torch.flatten(a, 1) if len(bottoms[0]) > 2 else a
            a = trailing(a, len(bottoms[1]) - 2)
        return a * x + z

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        a, x, z = inputs
        if len(g.shape(a)) != len(g.shape(x)):
            target = [0, 0] + [1] * (len(g.shape(x)) - 2)
            a = g.op("Reshape", a, g.const(target, np.int64))
        return [g.op("Add", g.op("Mul", a, x), z)]
