"""AbsVal: y = |x|."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, refuse_in_place, register_layer


@register_layer()
class AbsVal(Layer):
    """y = |x| on any shape, never in place (Caffe: absval_layer.cpp)."""

    type = "AbsVal"

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        refuse_in_place(proto)
        return super().from_proto(proto)

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.torch.abs(inputs[0])

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [g.op("Abs", inputs[0])]
