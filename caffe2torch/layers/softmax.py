"""Softmax along one axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import register_layer
from caffe2torch.layers._base import Layer, OnnxBuilder, SourceBuilder, canonical_axis
from caffe2torch.layers._python import call

if TYPE_CHECKING:
    from torch import nn
    from typing_extensions import Self


@register_layer()
@dataclass(frozen=True)
class Softmax(Layer):
    """y = exp(x - max x) / sum exp(x - max x) along ``axis`` (Caffe: softmax_layer.cpp).

    ``axis`` defaults to 1, the channels; a negative one counts from the end.
    """

    type = "Softmax"

    axis: int

    @classmethod
    def from_proto(cls, proto: Message) -> Self:
        return cls(name=proto.name, axis=proto.softmax_param.axis)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        canonical_axis(self, self.axis, len(bottoms[0]), "softmax_param.axis")
        return [bottoms[0]]

    def to_torch(self, bottoms: Sequence[Shape]) -> nn.Module:
        from torch import nn

        return nn.Softmax(dim=self.axis)

    def to_onnx(
        self, g: OnnxBuilder, inputs: Sequence[str], params: Mapping[str, str]
    ) -> Sequence[str]:
        return [g.op("Softmax", inputs[0], axis=self.axis)]

    def to_source(
        self, s: SourceBuilder, inputs: Sequence[str], bottoms: Sequence[Shape]
    ) -> str | Sequence[str]:
        return call("F.softmax", inputs[0], dim=self.axis)
