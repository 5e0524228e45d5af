"""Padding: zeros around an image, or its margins cut off."""

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
class Padding(Layer):
    """Zeros around height and width: ``pad_beg`` before, ``pad_end`` after (default 0 each).

    Fork: DeepLab v1, padding_layer.cpp, as ``PADDING`` of a V1 net. Negative numbers cut the
    margins off. Errors: one positive and the other negative; nothing left of an image.
    """

    type = "Padding"
    parameters = Parameters(
        "padding_param",
        "optional int32 pad_beg = 1 [default = 0]; optional int32 pad_end = 2 [default = 0];",
    )

    begin: int
    end: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        if param.pad_beg * param.pad_end < 0:
            raise net_error(
                proto,
                f"pad_beg {param.pad_beg} and pad_end {param.pad_end} must both pad, or both cut",
                "padding_param",
            )
        return cls(name=proto.name, begin=param.pad_beg, end=param.pad_end)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (shape,) = bottoms
        require_axes(self, shape)
        n, c, *sides = shape
        top = n, c, *(side + self.begin + self.end for side in sides)
        if min(top[2:]) <= 0:
            raise self.net_error(f"nothing is left of a bottom of shape {shape}", "padding_param")
        return [top]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.F.pad(inputs[0], (self.begin, self.end, self.begin, self.end))

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        (x,) = inputs
        if self.begin >= 0 and self.end >= 0:
            pads = [0, 0, self.begin, self.begin, 0, 0, self.end, self.end]
            return [g.op("Pad", x, g.const(pads, np.int64))]
        starts = [-self.begin] * 2
        ends = [self.end or np.iinfo(np.int64).max] * 2
        parts = (g.const(part, np.int64) for part in (starts, ends, [2, 3]))
        return [g.op("Slice", x, *parts)]
