"""CompactBilinear: all products of two channels, in fewer numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
    unsupported,
)
from caffe2torch.layers._onnx import check_constant
from caffe2torch.layers._runtime.rand import bilinear_sketch
from caffe2torch.layers._spatial import require_axes


@register_layer()
class CompactBilinear(Layer):
    """y[n, k] = D * sum of s[i] t[j] x[n, i, p] z[n, j, p] over pixels p and channels i, j of k.

    Fork: gy20073/compact_bilinear_pooling, compact_bilinear_layer.cpp. Bottoms x (N, C, H, W) and
    z (N, C', H, W), top (N, D, 1, 1), D = ``num_output``. Channels i and j are those of
    k = (h[i] + g[j]) mod D; the places h and g and the signs s and t are the numbers of the C
    library's ``rand()`` after ``srand(1)``, here those of Linux. The factor D is that of the
    fork's Fourier transforms, which do not divide by it. Errors: no num_output, other shapes.
    Refused: ``sum_pool: false``, which keeps the pixels apart.
    """

    type = "CompactBilinear"
    bottoms = (2, 2)
    parameters = Parameters(
        "compact_bilinear_param",
        "optional uint32 num_output = 1; optional bool sum_pool = 2 [default = true];",
    )

    num_output: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        if not param.num_output:
            raise net_error(proto, "must be given", "compact_bilinear_param.num_output")
        if not param.sum_pool:
            raise unsupported(proto, "false has no conversion", "compact_bilinear_param.sum_pool")
        return cls(name=proto.name, num_output=param.num_output)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        x, z = bottoms
        for shape in bottoms:
            require_axes(self, shape)
        if (x[0], *x[2:]) != (z[0], *z[2:]):
            raise self.net_error(f"bottoms of shapes {x} and {z} differ elsewhere than in channels")
        return [(x[0], self.num_output, 1, 1)]

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return t.runtime.CompactBilinear(bottoms[0][1], bottoms[1][1], self.num_output)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        channels = [g.shape(x)[1] for x in inputs]
        first, second = channels
        check_constant(first * second)
        places, signs = map(np.array, bilinear_sketch(first, second, self.num_output))
        x, z = (g.op("Reshape", x, g.const([0, 0, -1], np.int64)) for x in inputs)
        products = g.op("MatMul", x, g.op("Transpose", z, perm=[0, 2, 1]))
        products = g.op("Mul", products, g.const(signs * self.num_output))
        products = g.op("Reshape", products, g.const([0, -1], np.int64))
        batch = g.op("Shape", products, start=0, end=1)
        size = g.op("Concat", batch, g.const([self.num_output], np.int64), axis=0)
        total = g.op("Expand", g.const(0.0), size)
        at = g.op("Expand", g.const(places.reshape(1, -1), np.int64), g.op("Shape", products))
        y = g.op("ScatterElements", total, at, products, axis=1, reduction="add")
        return [g.op("Reshape", y, g.const([0, self.num_output, 1, 1], np.int64))]

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        batch, first, height, width = bottoms[0]
        return batch * first * bottoms[1][1] * height * width
