"""ELU: y = x if x > 0, alpha * (exp(x) - 1) otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, register_layer


@register_layer()
class ELU(Layer):
    """Exponential linear unit on any shape (Caffe: elu_layer.cpp). ``alpha`` defaults to 1."""

    type = "ELU"
    works_in_place = True

    alpha: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        return cls(name=proto.name, alpha=proto.elu_param.alpha)

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return t.nn.ELU(*[self.alpha] * (self.alpha != 1))

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [g.op("Elu", inputs[0], alpha=self.alpha)]
