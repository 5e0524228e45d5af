"""Log: y = log_base(shift + scale * x)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Backward,
    Layer,
    OnnxBuilder,
    Reads,
    TorchBuilder,
    net_error,
    register_layer,
)
from caffe2torch.layers._elementwise import log_of_base, scale_shift, scale_shift_onnx


@register_layer()
class Log(Layer):
    """y = log(shift + scale * x) / log(base) on any shape (Caffe: log_layer.cpp).

    ``base`` defaults to -1, which stands for e, and must otherwise be positive and not 1;
    ``scale`` defaults to 1 and ``shift`` to 0.
    """

    type = "Log"
    works_in_place = True

    scale: float
    shift: float
    outer: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = proto.log_param
        log_base = log_of_base(proto, param.base, "log_param.base")
        if not log_base:
            raise net_error(proto, "there is no logarithm to the base 1", "log_param.base")
        return cls(name=proto.name, scale=param.scale, shift=param.shift, outer=1 / log_base)

    def keeps_finite(self, bottoms: Sequence[Shape]) -> bool:
        return False

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        y = t.torch.log(scale_shift(inputs[0], self.scale, self.shift))
        return scale_shift(y, self.outer)

    def backward_reads(self, in_place: bool) -> Reads:
        return Reads(always=in_place)

    def gradient(self, t: TorchBuilder, found: Backward) -> Sequence[Any]:
        """The top's gradient times the slope, scale / (log(base) * (shift + scale * x)).

        In place Caffe writes the slope over the top's gradient before it multiplies the two, which
        makes the slope squared.
        """
        slope = self.outer * self.scale / scale_shift(found.bottoms[0], self.scale, self.shift)
        return [slope * (slope if found.in_place else found.diffs[0])]

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        y = g.op("Log", scale_shift_onnx(g, inputs[0], self.scale, self.shift))
        return [scale_shift_onnx(g, y, self.outer, 0)]
