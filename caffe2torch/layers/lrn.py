"""Local response normalisation across channels or within one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import (
    Backward,
    Layer,
    OnnxBuilder,
    Reads,
    TorchBuilder,
    net_error,
    register_layer,
)
from caffe2torch.layers._onnx import to_float
from caffe2torch.layers._spatial import require_axes


@register_layer()
class LRN(Layer):
    """y = x * (k + alpha / count * sum over a window of x^2) ^ -beta (Caffe: lrn_layer.cpp).

    Bottom and top (N, C, H, W). ACROSS_CHANNELS: ``local_size`` channels around each, count
    is ``local_size``; Caffe slides that sum, so that NaN and infinity stay in it when they have
    left the window. WITHIN_CHANNEL: a square of that side, count is ``local_size^2`` at
    the border too, and k is ignored: the constant is 1. Pixels and channels outside are 0.

    Defaults: local_size 5, alpha 1, beta 0.75, k 1, ACROSS_CHANNELS. Errors: an even
    local_size, not four axes.
    """

    type = "LRN"
    shares_pixels = True

    local_size: int
    alpha: float
    beta: float
    k: float
    within_channel: bool

    @property
    def works_in_place(self) -> bool:
        return self.within_channel

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = proto.lrn_param
        if param.local_size % 2 == 0:
            raise net_error(proto, f"{param.local_size} is even; it must be odd", "local_size")
        within = enum_name(param, "norm_region") == "WITHIN_CHANNEL"
        k = 1.0 if within else param.k
        return cls(proto.name, param.local_size, param.alpha, param.beta, k, within)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        require_axes(self, bottoms[0])
        return [bottoms[0]]

    def keeps_finite(self, bottoms: Sequence[Shape]) -> bool:
        return self.k > 0 and self.alpha >= 0

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        if self.within_channel:
            return None
        beta = t.exact(self.beta)  # torch raises to a power in float64.
        return t.nn.LocalResponseNorm(self.local_size, alpha=self.alpha, beta=beta, k=self.k)

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        if not self.within_channel:
            y = t.module(inputs[0])
            return t.runtime.left_behind(y, inputs[0], self.local_size) if self.non_finite else y
        beta = t.exact(self.beta)
        return t.runtime.lrn_within_channel(inputs[0], self.local_size, self.alpha, beta)

    def backward_reads(self, in_place: bool) -> Reads:
        return Reads(slice(None), slice(0) if self.within_channel else slice(None))

    def gradient(self, t: TorchBuilder, found: Backward) -> Sequence[Any]:
        """Of the bottom and the top that there are; Caffe has kept the sums s of its forward pass.

        With s = k + alpha / count * sum(x^2) it is g s^-beta - 2 alpha beta / count * x * sum(r),
        g the top's gradient, r = g y / s across channels and g x s^(-beta - 1) within one.
        """
        (x,), (given,), (y,), (diff,) = found.bottoms, found.given, found.tops, found.diffs
        s = self.k + self.alpha * self._mean(t, given.square())
        power = s**-self.beta
        ratio = diff * x * power / s if self.within_channel else diff * y / s
        return [diff * power - 2 * self.alpha * self.beta * x * self._mean(t, ratio)]

    def _mean(self, t: TorchBuilder, values: Any) -> Any:
        """The sum over the window around each value, divided by the window's size."""
        half = self.local_size // 2
        if self.within_channel:
            return t.F.avg_pool2d(t.F.pad(values, [half] * 4), self.local_size, 1)
        padded = t.F.pad(values, [0, 0, 0, 0, half, half]).unsqueeze(1)
        return t.F.avg_pool3d(padded, (self.local_size, 1, 1), 1).squeeze(1)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        y = self._normalized_onnx(g, inputs[0])
        if self.within_channel or not self.non_finite:
            return [y]
        x, channels, half = inputs[0], g.shape(inputs[0])[1], self.local_size // 2
        squares = g.op("Mul", x, x)
        odd = to_float(g, g.op("IsNaN", g.op("Sub", squares, squares)))
        axis = g.const([1], np.int64)
        entered = g.op("CumSum", odd, g.const(1, np.int64))
        entered = g.op("Pad", entered, g.const([0, half + 1, 0, 0] + [0] * 4, np.int64))
        left = g.op("Slice", entered, g.const([0], np.int64), g.const([channels], np.int64), axis)
        return [g.op("Where", g.op("Greater", left, g.const(0.0)), g.const(np.nan), y)]

    def _normalized_onnx(self, g: OnnxBuilder, x: str) -> str:
        if not self.within_channel and self.alpha > 0 and self.beta > 0:
            size, alpha, beta = self.local_size, self.alpha, self.beta
            if self.k <= 0 or self.k == int(self.k):
                return str(g.op("LRN", x, size=size, alpha=alpha, beta=beta, bias=self.k))
            # OpenVINO takes k for an integer: (k + s)^-beta = k^-beta (1 + s / k)^-beta.
            y = g.op("LRN", x, size=size, alpha=alpha / self.k, beta=beta, bias=1.0)
            return str(g.op("Mul", y, g.const(self.k**-beta)))
        half, squares = self.local_size // 2, g.op("Mul", x, x)
        kernel, margins = [self.local_size] * 2, [0, 0, half, half]
        if not self.within_channel:  # As an image of C rows; engines' LRN wants both positive.
            channels = g.shape(x)[1]
            squares = g.op("Reshape", squares, g.const([0, 1, channels, -1], np.int64))
            kernel, margins = [self.local_size, 1], [0, 0, half, 0]
        squares = g.op("Pad", squares, g.const(margins * 2, np.int64))
        mean = g.op("AveragePool", squares, kernel_shape=kernel, strides=[1, 1])
        if not self.within_channel:
            mean = g.op("Reshape", mean, g.op("Shape", x))
        scale = g.op("Add", g.op("Mul", mean, g.const(self.alpha)), g.const(self.k))
        return str(g.op("Mul", x, g.op("Pow", scale, g.const(-self.beta))))
