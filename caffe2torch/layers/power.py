"""Power: y = (shift + scale * x) ^ power."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    NOTHING,
    Affine,
    Backward,
    Layer,
    OnnxBuilder,
    Reads,
    TorchBuilder,
    register_layer,
)
from caffe2torch.layers._elementwise import scale_shift, scale_shift_onnx


@register_layer()
class Power(Layer):
    """y = (shift + scale * x) ^ power on any shape (Caffe: power_layer.cpp).

    ``power`` and ``scale`` default to 1, ``shift`` to 0. If power * scale is 0, y does not
    depend on x, NaN included: it is 1 for power 0, otherwise shift ^ power. Its gradient is 0.
    """

    type = "Power"
    works_in_place = True

    power: float
    scale: float
    shift: float

    constant: float | None
    """What y is for every x; None if it depends on x."""

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        power, scale, shift = (getattr(proto.power_param, f) for f in ("power", "scale", "shift"))
        constant = None if power * scale else _power(shift, power)
        return cls(name=proto.name, power=power, scale=scale, shift=shift, constant=constant)

    def keeps_finite(self, bottoms: Sequence[Shape]) -> bool:
        return self.power in (0, 1, 2, 3)

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        if self.constant is not None:
            return t.runtime.constant(inputs[0], self.constant)
        y = scale_shift(inputs[0], self.scale, self.shift)
        return y if self.power == 1 else t.torch.pow(y, t.exact(self.power))

    def affine(self, params: Mapping[str, FloatArray], channels: int) -> Affine | None:
        if self.power != 1 or self.constant is not None:
            return None
        return Affine(np.full(channels, self.scale), np.full(channels, self.shift))

    def backward_reads(self, in_place: bool) -> Reads:
        """Where y does not depend on x, or evenly, no data.

        In place Caffe writes the slope over the top's gradient before it multiplies the two.
        """
        if self.constant is not None:
            return NOTHING
        if self.power in (1, 2):
            return Reads(slice(0) if self.power == 1 else slice(None), always=in_place)
        return Reads(slice(None), slice(None), always=True)

    def gradient(self, t: TorchBuilder, found: Backward) -> Sequence[Any]:
        """The top's gradient times the slope, power * scale * y / (shift + scale * x).

        That is not a number where x and y are 0. For a power of 1 or 2 there is no quotient. In
        place it is the slope squared, whatever the top's gradient is.
        """
        (x,), (y,) = found.bottoms, found.tops
        if self.power == 1:
            slope = t.torch.full_like(x, self.scale)
        elif self.power == 2:
            slope = scale_shift(x, 2 * self.scale * self.scale, 2 * self.scale * self.shift)
        elif self.shift == 0:
            slope = y / x * self.power
        else:
            slope = y / scale_shift(x, self.scale, self.shift) * (self.power * self.scale)
        return [slope * (slope if found.in_place else found.diffs[0])]

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        if self.constant is not None:
            return [g.op("Expand", g.const(self.constant), g.op("Shape", inputs[0]))]
        y = scale_shift_onnx(g, inputs[0], self.scale, self.shift)
        if self.power != 1:
            y = g.op("Pow", y, g.const(self.power))
        return [g.op("Identity", y) if y == inputs[0] else y]


def _power(base: float, exponent: float) -> float:
    """The power in C's arithmetic, which has infinities and NaN where Python raises."""
    with np.errstate(all="ignore"):
        return float(np.power(np.float32(base), np.float32(exponent)))
