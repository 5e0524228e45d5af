"""SeLU: the scaled exponential linear unit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    TEXT_ONLY,
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    register_layer,
)


@register_layer("SeLU", "SeLu", "SELU")
class SeLU(Layer):
    """y = lambda * x if x > 0, lambda * alpha * (exp(x) - 1) otherwise, on any shape.

    Forks: selu_layer.cpp of a change proposed to BVLC's Caffe and of Synopsys' Caffe. Those number
    the two one way, py-RFCN-priv the other, so that they are not read from a binary.
    ``alpha`` is 1.6732632423543772 by default, ``lambda`` 1.0507009873554805.
    """

    type = "SeLU"
    works_in_place = True
    parameters = Parameters(
        "selu_param",
        f"""
        optional float alpha = {TEXT_ONLY} [default = 1.6732632423543772];
        optional float lambda = {TEXT_ONLY + 1} [default = 1.0507009873554805];
        """,
    )

    alpha: float
    gain: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        return cls(name=proto.name, alpha=param.alpha, gain=getattr(param, "lambda"))

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.F.elu(inputs[0], self.alpha) * self.gain

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [g.op("Mul", g.op("Elu", inputs[0], alpha=self.alpha), g.const(self.gain))]
