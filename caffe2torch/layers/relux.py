"""ReLUX: y = min(max(x, 0), maximal_value) + negative_slope * min(x, 0)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Backward,
    Layer,
    OnnxBuilder,
    Parameters,
    Reads,
    TorchBuilder,
    net_error,
    register_layer,
)


@register_layer()
class ReLUX(Layer):
    """Rectified linear unit that saturates, elementwise on any shape.

    Fork: soeaver/py-RFCN-priv, relux_layer.cpp. ``maximal_value`` (default 6) is where it
    saturates, ``negative_slope`` (default 0) multiplies negative inputs. Errors: a negative
    maximal_value.
    """

    type = "ReLUX"
    works_in_place = True
    parameters = Parameters(
        "relux_param",
        """
        optional float negative_slope = 1 [default = 0];
        optional float maximal_value = 2 [default = 6];
        """,
    )

    negative_slope: float
    most: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = cls.parameters.of(proto)
        if p.maximal_value < 0:
            raise net_error(proto, f"{p.maximal_value:g} is negative", "relux_param.maximal_value")
        return cls(proto.name, p.negative_slope, p.maximal_value)

    def backward_reads(self, in_place: bool) -> Reads:
        # In place the bottom is the top, which lies between 0 and the maximum where it did.
        own = in_place and self.negative_slope >= 0
        return Reads(slice(0), slice(None)) if own else Reads()

    def gradient(self, t: TorchBuilder, found: Backward) -> Sequence[Any]:
        (diff,), (x,) = found.diffs, found.bottoms
        return [diff * ((x > 0) * (x < self.most) + self.negative_slope * (x <= 0))]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        (x,) = inputs
        y = t.torch.clamp(x, 0, self.most)
        return y + self.negative_slope * t.torch.clamp(x, max=0) if self.negative_slope else y

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        (x,) = inputs
        zero = g.const(0.0)
        y = g.op("Clip", x, zero, g.const(self.most))
        if not self.negative_slope:
            return [y]
        below = g.op("Mul", g.op("Min", x, zero), g.const(self.negative_slope))
        return [g.op("Add", y, below)]
