"""YOLOv2's reorganisation of pixels into channels."""

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
from caffe2torch.layers._spatial import require_axes


@register_layer()
class Reorg(Layer):
    """Darknet's reorg with stride s (forks of YOLOv2: reorg_layer.cpp, reorg_cpu).

    ``reverse``: (N, C, H, W) to (N, C / s^2, s H, s W) by
    y[c, s h + i, s w + j] = x[(s i + j) C / s^2 + c, h, w].
    Otherwise (N, C, H, W) to (N, C s^2, H / s, W / s). As in darknet this is not the inverse:
    the memory of x is taken as (C / s^2, s H, s W), gathered into (C, H, W) by the formula
    above read from right to left, and taken as the top's shape.

    Defaults: stride 2, reverse false. Errors: stride 0, not four axes, C not divisible by
    s^2; without ``reverse`` H or W not divisible by s.
    """

    type = "Reorg"
    parameters = Parameters(
        "reorg_param",
        """
        optional uint32 stride = 1 [default = 2];
        optional bool reverse = 2 [default = false];
        """,
    )

    stride: int
    reverse: bool

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        if param.stride < 1:
            raise net_error(proto, "it must be positive", "stride")
        return cls(name=proto.name, stride=param.stride, reverse=param.reverse)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (shape,) = bottoms
        require_axes(self, shape)
        s = self.stride
        n, c, h, w = shape
        if c % (s * s):
            raise self.net_error(f"{c} channels are not divisible by {s * s}", "stride")
        if self.reverse:
            return [(n, c // (s * s), h * s, w * s)]
        if h % s or w % s:
            raise self.net_error(f"height {h} and width {w} are not divisible by {s}", "stride")
        return [(n, c * s * s, h // s, w // s)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        t.check(self, inputs)
        return t.runtime.reorg(inputs[0], self.stride, self.reverse)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        (x,) = inputs
        s = self.stride
        if self.reverse:
            return [g.op("DepthToSpace", x, blocksize=s, mode="DCR")]
        shape = g.shape(x)
        (top,) = self.infer_shapes([shape])
        _, c, h, w = shape
        x = g.op("Reshape", x, g.const([-1, c // (s * s), h * s, w * s], np.int64))
        x = g.op("SpaceToDepth", x, blocksize=s)
        return [g.op("Reshape", x, g.const([-1, *top[1:]], np.int64))]
