"""Threshold: y = 1 if x > threshold, 0 otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import NOTHING, Layer, OnnxBuilder, TorchBuilder, register_layer
from caffe2torch.layers._onnx import to_float


@register_layer()
class Threshold(Layer):
    """1 where x is above ``threshold`` (default 0), 0 elsewhere (Caffe: threshold_layer.cpp)."""

    type = "Threshold"
    reads = NOTHING
    barred_bottoms = frozenset({0})
    works_in_place = True

    threshold: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        return cls(name=proto.name, threshold=proto.threshold_param.threshold)

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return (inputs[0] > self.threshold).to(inputs[0].dtype)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [to_float(g, g.op("Greater", inputs[0], g.const(self.threshold)))]
