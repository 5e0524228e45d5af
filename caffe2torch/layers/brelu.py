"""BReLU: y = min(max(x, minval), maxval)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

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


@register_layer()
class BReLU(Layer):
    """x limited to the range from ``minval`` to ``maxval``, on any shape.

    Forks for haze removal (DehazeNet, FPCNet): brelu_layer.cpp. Their schema, and with it the
    defaults, is not public (the numbers are those of a published file): both are required here.
    Where ``minval`` is above ``maxval``, y is ``maxval``.
    """

    type = "BReLU"
    works_in_place = True
    parameters = Parameters(
        "brelu_param",
        "optional float minval = 1; optional float maxval = 2;",
    )

    min: float
    max: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        for field in ("minval", "maxval"):
            if not param.HasField(field):
                raise net_error(proto, "it is required; give a number", f"brelu_param.{field}")
        return cls(proto.name, min(param.minval, param.maxval), param.maxval)

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.torch.clamp(inputs[0], self.min, self.max)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [g.op("Clip", inputs[0], g.const(self.min), g.const(self.max))]
