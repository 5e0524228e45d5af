"""ELU: y = x if x > 0, alpha * (exp(x) - 1) otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Backward, Layer, OnnxBuilder, Reads, TorchBuilder, register_layer


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

    def backward_reads(self, in_place: bool) -> Reads:
        # The sign of y is that of x, unless alpha is negative.
        return Reads(slice(0) if in_place and self.alpha >= 0 else slice(None), slice(None))

    def gradient(self, t: TorchBuilder, found: Backward) -> Sequence[Any]:
        (diff,), (x,), (y,) = found.diffs, found.bottoms, found.tops
        return [diff * ((x > 0) + (self.alpha + y) * (x <= 0))]

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [g.op("Elu", inputs[0], alpha=self.alpha)]
