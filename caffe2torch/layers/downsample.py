"""Downsample: FlowNet's reduction of ground truth, which may hold NaN."""

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
)
from caffe2torch.layers._grids import apply_onnx, triangle, weights
from caffe2torch.layers._onnx import to_float
from caffe2torch.layers._spatial import require_axes


@register_layer()
class Downsample(Layer):
    """y[p] = the mean of pixels near p s, weighted by 1 - distance / s on each axis.

    FlowNet: downsample_layer.cpp, .cu. Bottom (N, C, H, W), top (N, C, H', W'): the size of the
    second bottom if there is one, else ``top_height`` and ``top_width``. s = (H - 1) / (H' - 1).
    NaN are left out of the mean; where their weights exceed half of the others', the top is NaN.
    The bottom's own size gives the bottom. Errors: a size of 0. Sizes larger than the bottom's,
    and of 1, have no defined value in the fork's code and are refused.
    """

    type = "Downsample"
    parameters = Parameters(
        "downsample_param",
        """
        optional uint32 top_height = 1 [default = 0];
        optional uint32 top_width = 2 [default = 0];
        """,
    )
    bottoms = (1, 2)

    size: Shape
    """Given height and width."""

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        size = (param.top_height, param.top_width)
        if len(proto.bottom) == 1 and 0 in size:
            raise net_error(
                proto, "top_height and top_width must be positive", "downsample_param.top_height"
            )
        return cls(name=proto.name, size=size)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        for shape in bottoms:
            require_axes(self, shape)
        first = bottoms[0]
        size = bottoms[1][2:] if len(bottoms) > 1 else self.size
        fits = all(1 < out <= n for n, out in zip(first[2:], size, strict=True))
        if not fits and size != first[2:]:
            raise self.unsupported(
                f"{first[2:]} cannot be reduced to {size}: both sizes must exceed 1, and not be "
                "larger than the bottom's",
                "downsample_param.top_height",
            )
        return [(*first[:2], *size)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        t.check(self, inputs)
        size = inputs[1].shape[2:] if len(inputs) > 1 else self.size
        return t.runtime.downsample(inputs[0], size)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        x = inputs[0]
        (top,) = self.infer_shapes([g.shape(value) for value in inputs])
        before, after = g.shape(x)[2:], top[2:]
        if before == after:
            return [g.op("Identity", x)]
        matrices = []
        for n, out in zip(before, after, strict=True):
            step = (n - 1) / (out - 1)
            matrices.append(weights(n, np.arange(out, dtype=np.float64) * step, step, triangle))
        missing = g.op("IsNaN", x)
        absent = apply_onnx(g, to_float(g, missing), *matrices)
        weight = apply_onnx(g, to_float(g, g.op("Not", missing)), *matrices)
        values = apply_onnx(g, g.op("Where", missing, g.const(0.0), x), *matrices)
        mean = g.op("Div", values, weight)
        gone = g.op("Greater", g.op("Div", absent, weight), g.const(0.5))
        return [g.op("Where", gone, g.const(float("nan")), mean)]
