"""ReLU6: y = min(max(x, 0) + negative_slope * min(x, 0), 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import register_layer
from caffe2torch.layers._base import Layer, OnnxBuilder, SourceBuilder
from caffe2torch.layers._python import call

if TYPE_CHECKING:
    from torch import Tensor, nn
    from typing_extensions import Self


@register_layer()
@dataclass(frozen=True)
class ReLU6(Layer):
    """Rectified linear unit that saturates at 6, elementwise on any shape.

    Forks for MobileNet: relu6_layer.cpp. ``negative_slope`` (default 0) multiplies negative
    inputs, in the forks that have it.
    """

    type = "ReLU6"

    negative_slope: float

    @classmethod
    def from_proto(cls, proto: Message) -> Self:
        return cls(name=proto.name, negative_slope=proto.relu6_param.negative_slope)

    def old_torch(self, bottoms: Sequence[Shape]) -> nn.Module | None:
        from torch import nn

        return None if self.negative_slope else nn.ReLU6()

    def forward(
        self, inputs: Sequence[Tensor], params: Mapping[str, Tensor], training: bool
    ) -> Tensor | Sequence[Tensor]:
        from torch.nn import functional

        return functional.leaky_relu(inputs[0], self.negative_slope).clamp(max=6)

    def to_onnx(
        self, g: OnnxBuilder, inputs: Sequence[str], params: Mapping[str, str]
    ) -> Sequence[str]:
        (x,) = inputs
        if not self.negative_slope:
            return [g.op("Clip", x, g.const(0.0), g.const(6.0))]
        x = g.op("LeakyRelu", x, alpha=self.negative_slope)
        return [g.op("Min", x, g.const(6.0))]

    def to_source(
        self, s: SourceBuilder, inputs: Sequence[str], bottoms: Sequence[Shape]
    ) -> str | Sequence[str]:
        if self.negative_slope:
            return call("torch.clamp", call("F.leaky_relu", inputs[0], self.negative_slope), max=6)
        return call("F.relu6", inputs[0])
