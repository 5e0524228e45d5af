"""Threshold: y = 1 if x > threshold, 0 otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import register_layer
from caffe2torch.layers._base import Layer, OnnxBuilder, SourceBuilder
from caffe2torch.layers._onnx import to_float
from caffe2torch.layers._python import literal

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self


@register_layer()
@dataclass(frozen=True)
class Threshold(Layer):
    """1 where x is above ``threshold`` (default 0), 0 elsewhere (Caffe: threshold_layer.cpp)."""

    type = "Threshold"

    threshold: float

    @classmethod
    def from_proto(cls, proto: Message) -> Self:
        return cls(name=proto.name, threshold=proto.threshold_param.threshold)

    def forward(
        self, inputs: Sequence[Tensor], params: Mapping[str, Tensor], training: bool
    ) -> Tensor:
        return (inputs[0] > self.threshold).to(inputs[0].dtype)

    def to_onnx(
        self, g: OnnxBuilder, inputs: Sequence[str], params: Mapping[str, str]
    ) -> Sequence[str]:
        return [to_float(g, g.op("Greater", inputs[0], g.const(self.threshold)))]

    def to_source(
        self, s: SourceBuilder, inputs: Sequence[str], bottoms: Sequence[Shape]
    ) -> str | Sequence[str]:
        return f"({inputs[0]} > {literal(self.threshold)}).to({inputs[0]}.dtype)"
