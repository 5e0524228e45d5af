"""Swish: y = x * sigmoid(beta * x)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import register_layer
from caffe2torch.layers._base import Layer, OnnxBuilder, SourceBuilder
from caffe2torch.layers._elementwise import scale_shift, scale_shift_onnx
from caffe2torch.layers._python import call, scaled

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self


@register_layer()
@dataclass(frozen=True)
class Swish(Layer):
    """y = x / (1 + exp(-beta * x)) on any shape, beta 1 by default (Caffe: swish_layer.cpp)."""

    type = "Swish"

    beta: float

    @classmethod
    def from_proto(cls, proto: Message) -> Self:
        return cls(name=proto.name, beta=proto.swish_param.beta)

    def forward(
        self, inputs: Sequence[Tensor], params: Mapping[str, Tensor], training: bool
    ) -> Tensor:
        return inputs[0] * scale_shift(inputs[0], self.beta, 0).sigmoid()

    def to_onnx(
        self, g: OnnxBuilder, inputs: Sequence[str], params: Mapping[str, str]
    ) -> Sequence[str]:
        gate = g.op("Sigmoid", scale_shift_onnx(g, inputs[0], self.beta, 0))
        return [g.op("Mul", inputs[0], gate)]

    def to_source(
        self, s: SourceBuilder, inputs: Sequence[str], bottoms: Sequence[Shape]
    ) -> str | Sequence[str]:
        return f"{inputs[0]} * {call('torch.sigmoid', scaled(inputs[0], self.beta, 0))}"
