"""ELU: y = x if x > 0, alpha * (exp(x) - 1) otherwise."""

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
    from torch import nn
    from typing_extensions import Self


@register_layer()
@dataclass(frozen=True)
class ELU(Layer):
    """Exponential linear unit on any shape (Caffe: elu_layer.cpp). ``alpha`` defaults to 1."""

    type = "ELU"

    alpha: float

    @classmethod
    def from_proto(cls, proto: Message) -> Self:
        return cls(name=proto.name, alpha=proto.elu_param.alpha)

    def old_torch(self, bottoms: Sequence[Shape]) -> nn.Module:
        from torch import nn

        return nn.ELU(self.alpha)

    def to_onnx(
        self, g: OnnxBuilder, inputs: Sequence[str], params: Mapping[str, str]
    ) -> Sequence[str]:
        return [g.op("Elu", inputs[0], alpha=self.alpha)]

    def to_source(
        self, s: SourceBuilder, inputs: Sequence[str], bottoms: Sequence[Shape]
    ) -> str | Sequence[str]:
        return call("F.elu", inputs[0], *[self.alpha] * (self.alpha != 1))
