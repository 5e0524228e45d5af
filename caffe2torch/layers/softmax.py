"""Softmax along one axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Backward,
    Layer,
    OnnxBuilder,
    Reads,
    TorchBuilder,
    canonical_axis,
    register_layer,
)


@register_layer()
class Softmax(Layer):
    """y = exp(x - max x) / sum exp(x - max x) along ``axis`` (Caffe: softmax_layer.cpp).

    ``axis`` defaults to 1, the channels; a negative one counts from the end.
    """

    type = "Softmax"
    reads = Reads(slice(0), slice(None))
    works_in_place = True

    axis: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        return cls(name=proto.name, axis=proto.softmax_param.axis)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        canonical_axis(self, self.axis, len(bottoms[0]), "softmax_param.axis")
        return [bottoms[0]]

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return t.nn.Softmax(dim=self.axis)

    def gradient(self, t: TorchBuilder, found: Backward) -> Sequence[Any]:
        (diff,), (y,) = found.diffs, found.tops
        return [(diff - (diff * y).sum(self.axis, keepdim=True)) * y]

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [g.op("Softmax", inputs[0], axis=self.axis)]
