"""ReLU6: y = min(max(x, 0) + negative_slope * min(x, 0), 6)."""

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
    register_layer,
)


@register_layer()
class ReLU6(Layer):
    """Rectified linear unit that saturates at 6, elementwise on any shape.

    Forks for MobileNet: relu6_layer.cpp. ``negative_slope`` (default 0) multiplies negative
    inputs, in the forks that have it.
    """

    type = "ReLU6"
    works_in_place = True
    parameters = Parameters(
        "relu6_param",
        """
        optional float negative_slope = 1 [default = 0];
        """,
    )

    negative_slope: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        return cls(name=proto.name, negative_slope=cls.parameters.of(proto).negative_slope)

    def backward_reads(self, in_place: bool) -> Reads:
        # In place the bottom is the top, which lies between 0 and 6 where the bottom did.
        own = in_place and self.negative_slope >= 0
        return Reads(slice(0), slice(None)) if own else Reads()

    def gradient(self, t: TorchBuilder, found: Backward) -> Sequence[Any]:
        (diff,), (x,) = found.diffs, found.bottoms
        return [diff * ((x > 0) + self.negative_slope * (x <= 0)) * (x < 6)]

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return None if self.negative_slope else t.nn.ReLU6()

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        if not self.negative_slope:
            return t.module(inputs[0])
        return t.torch.clamp(t.F.leaky_relu(inputs[0], self.negative_slope), max=6)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        (x,) = inputs
        if not self.negative_slope:
            return [g.op("Clip", x, g.const(0.0), g.const(6.0))]
        x = g.op("LeakyRelu", x, alpha=self.negative_slope)
        return [g.op("Min", x, g.const(6.0))]
