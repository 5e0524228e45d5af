"""HardSigmoid: y = min(max(alpha * x + beta, 0), 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, OnnxBuilder, Parameters, TorchBuilder, register_layer
from caffe2torch.layers._elementwise import scale_shift, scale_shift_onnx


@register_layer()
class HardSigmoid(Layer):
    """alpha * x + beta limited to [0, 1], on any shape.

    Forks: hard_sigmoid_layer.cpp of Synopsys' Caffe, and of eric612/MobileNet-YOLO, which has
    no parameters. ``alpha`` is 0.2 by default, ``beta`` 0.5.
    """

    type = "HardSigmoid"
    works_in_place = True
    parameters = Parameters(
        "hard_sigmoid_param",
        "optional float alpha = 1 [default = 0.2]; optional float beta = 2 [default = 0.5];",
    )

    alpha: float
    beta: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        return cls(name=proto.name, alpha=param.alpha, beta=param.beta)

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.torch.clamp(scale_shift(inputs[0], self.alpha, self.beta), 0, 1)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        y = scale_shift_onnx(g, inputs[0], self.alpha, self.beta)
        return [g.op("Clip", y, g.const(0.0), g.const(1.0))]
