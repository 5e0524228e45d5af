"""Clip: y = max(min, min(max, x))."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, net_error, register_layer


@register_layer()
class Clip(Layer):
    """x limited to the range from ``min`` to ``max``, both required (Caffe: clip_layer.cpp).

    Where ``min`` is above ``max``, y is ``min``, with a gradient of 0; so is it where x is NaN.
    """

    type = "Clip"
    works_in_place = True

    min: float
    max: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = proto.clip_param
        for field in ("min", "max"):
            if not param.HasField(field):
                raise net_error(proto, "it is required; give a number", f"clip_param.{field}")
        return cls(name=proto.name, min=param.min, max=param.max)

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        (x,) = inputs
        if self.max < self.min:
            return t.runtime.constant(x, self.min)
        y = t.torch.clamp(x, self.min, self.max)
        return t.torch.where(x == x, y, self.min) if self.non_finite else y

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        (x,), least = inputs, g.const(self.min)
        y = g.op("Clip", x, least, g.const(max(self.min, self.max)))
        return [g.op("Where", g.op("Greater", x, least), y, least) if self.non_finite else y]
