"""ReLU: y = max(x, 0) + negative_slope * min(x, 0)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Backward,
    Layer,
    OnnxBuilder,
    Reads,
    TorchBuilder,
    register_layer,
    unsupported,
)
from caffe2torch.layers._onnx import to_float


@register_layer()
class ReLU(Layer):
    """Rectified linear unit, elementwise on any shape (Caffe: relu_layer.cpp).

    ``negative_slope`` (default 0) multiplies negative inputs, as in a leaky ReLU. The product
    is computed for slope 0 too: of minus infinity it is NaN. A second top makes it a MaskedReLU.
    """

    type = "ReLU"
    works_in_place = True
    tops = (1, 2)

    negative_slope: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        slope = proto.relu_param.negative_slope
        if len(proto.top) < 2:
            return cls(name=proto.name, negative_slope=slope)
        if slope < 0 and proto.top[0] in proto.bottom:
            raise unsupported(
                proto,
                "in place the fork's mask is that of the top, whose sign a negative slope changes; "
                "give the top a name of its own",
                "relu_param.negative_slope",
            )
        return MaskedReLU(name=proto.name, negative_slope=slope)

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return t.nn.LeakyReLU(self.negative_slope) if self.negative_slope else t.nn.ReLU()

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        y = t.module(inputs[0])
        return y if self._is_plain() else y + 0.0 * t.torch.clamp(inputs[0], max=0)

    @property
    def keeps_signs(self) -> bool:
        return self.negative_slope >= 0

    def backward_reads(self, in_place: bool) -> Reads:
        if self.negative_slope < 0:
            return Reads()
        # In place the bottom is the top, whose sign is the same.
        return Reads(slice(0), slice(None), signs=True) if in_place else Reads(signs=True)

    def gradient(self, t: TorchBuilder, found: Backward) -> Sequence[Any]:
        (diff,), (x,) = found.diffs, found.bottoms
        return [diff * ((x > 0) + self.negative_slope * (x <= 0))]

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        if self.negative_slope:
            return [g.op("LeakyRelu", inputs[0], alpha=self.negative_slope)]
        y = g.op("Relu", inputs[0])
        if self._is_plain():
            return [y]
        negative = g.op("Min", inputs[0], g.const(0.0))
        return [g.op("Add", y, g.op("Mul", negative, g.const(0.0)))]

    def _is_plain(self) -> bool:
        return bool(self.negative_slope) or not self.non_finite


@dataclass(frozen=True)
class MaskedReLU(ReLU):
    """A ReLU whose second top is 1 where x is above 0, else 0 (HyeonwooNoh/caffe: relu_layer.cpp).

    The mask has no gradient.
    """

    type = "ReLU"
    tops = (2, 2)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        return [bottoms[0], bottoms[0]]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return [super().to_torch(t, inputs, bottoms), t.runtime.above_zero(inputs[0])]

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        above = g.op("Greater", inputs[0], g.const(0.0))
        return [*super().to_onnx(g, inputs), to_float(g, above)]
