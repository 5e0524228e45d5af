"""Split: one blob under several names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    GradientSharing,
    Layer,
    OnnxBuilder,
    TorchBuilder,
    refuse_in_place,
    register_layer,
)


@register_layer()
class Split(Layer):
    """Every top is the bottom, memory included (Caffe: split_layer.cpp)."""

    type = "Split"
    shares_pixels = True
    tops = (1, None)
    shares_memory = True
    gradient_sharing = GradientSharing.BY_SUM

    num_tops: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        refuse_in_place(proto)
        return cls(name=proto.name, num_tops=len(proto.top))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        return [bottoms[0]] * self.num_tops

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return [inputs[0]] * self.num_tops

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [inputs[0]] * self.num_tops
