"""Clip: y = max(min, min(max, x))."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import register_layer
from caffe2torch.layers._base import Layer, OnnxBuilder, SourceBuilder, net_error
from caffe2torch.layers._python import call

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self


@register_layer()
@dataclass(frozen=True)
class Clip(Layer):
    """x limited to the range from ``min`` to ``max``, both required (Caffe: clip_layer.cpp).

    Where ``min`` is above ``max``, y is ``min``.
    """

    type = "Clip"

    min: float
    max: float

    @classmethod
    def from_proto(cls, proto: Message) -> Self:
        param = proto.clip_param
        for field in ("min", "max"):
            if not param.HasField(field):
                raise net_error(proto, "it is required; give a number", f"clip_param.{field}")
        return cls(name=proto.name, min=param.min, max=max(param.min, param.max))

    def forward(
        self, inputs: Sequence[Tensor], params: Mapping[str, Tensor], training: bool
    ) -> Tensor:
        return inputs[0].clamp(self.min, self.max)

    def to_onnx(
        self, g: OnnxBuilder, inputs: Sequence[str], params: Mapping[str, str]
    ) -> Sequence[str]:
        return [g.op("Clip", inputs[0], g.const(self.min), g.const(self.max))]

    def to_source(
        self, s: SourceBuilder, inputs: Sequence[str], bottoms: Sequence[Shape]
    ) -> str | Sequence[str]:
        return call("torch.clamp", inputs[0], self.min, self.max)
