"""Reverse: one axis backwards."""

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
    refuse_in_place,
    register_layer,
)


@register_layer()
class Reverse(Layer):
    """y[.., i, ..] = x[.., n - 1 - i, ..] on the axis ``axis`` of size n.

    caffe_ocr, CTPN: reverse_layer.cpp. Default: axis 0, the time of a recurrent layer. Errors:
    a negative axis, one that the bottom does not have, a top with the bottom's name.
    """

    type = "Reverse"
    parameters = Parameters("reverse_param", "optional int32 axis = 1 [default = 0];")

    axis: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        refuse_in_place(proto)
        axis = cls.parameters.of(proto).axis
        if axis < 0:
            raise net_error(proto, f"{axis} must not be negative", "reverse_param.axis")
        return cls(name=proto.name, axis=axis)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        if self.axis >= len(bottoms[0]):
            raise self.net_error(
                f"axis {self.axis} is out of range for a bottom of shape {bottoms[0]}",
                "reverse_param.axis",
            )
        return [bottoms[0]]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.torch.flip(inputs[0], (self.axis,))

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        before_the_first = int(np.iinfo(np.int64).min)
        ends = ([-1], [before_the_first], [self.axis], [-1])
        return [g.op("Slice", inputs[0], *(g.const(end, np.int64) for end in ends))]
