"""Insanity: ReLU with a slope for negative numbers that training draws at random."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_value
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
    unsupported,
)

BOUNDS = "optional float lb = 1 [default = 5]; optional float ub = 2 [default = 10];"
"""The declaration of its parameters."""


@register_layer()
class Insanity(Layer):
    """y = max(x, 0) + min(x, 0) / m, m = (ub - lb) / (log|ub| - log|lb|), as in phase TEST.

    Fork: happynear/caffe-windows, insanity_layer.cpp (randomised leaky ReLU). Defaults: ``lb`` 5,
    ``ub`` 10. In phase TRAIN m is drawn between them for each number, which is refused. Errors:
    ub not above lb, one of them 0, both of one absolute value; fewer than two axes.
    """

    type = "Insanity"
    works_in_place = True
    parameters = Parameters("insanity_param", BOUNDS)

    slope: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        low, high = param.lb, param.ub
        if not low < high or not low * high or low == -high:
            raise net_error(
                proto,
                f"lb {low:g} and ub {high:g} must rise, and neither be 0 nor of one size",
                cls.parameters.fields[0],
            )
        if proto.phase == enum_value("Phase", "TRAIN"):
            raise unsupported(proto, "it draws at random in phase TRAIN; use phase TEST", "phase")
        return cls(name=proto.name, slope=(log(abs(high)) - log(abs(low))) / (high - low))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        if len(bottoms[0]) < 2:
            raise self.net_error(f"a bottom of shape {bottoms[0]} has fewer than two axes")
        return [bottoms[0]]

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return t.nn.LeakyReLU(self.slope)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [g.op("LeakyRelu", inputs[0], alpha=self.slope)]
