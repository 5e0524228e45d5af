"""Spatial pyramid pooling."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_name, enum_value
from caffe2torch.layers import (
    NOTHING,
    Layer,
    OnnxBuilder,
    TorchBuilder,
    net_error,
    register_layer,
    unsupported,
)
from caffe2torch.layers import _pooling as pooling
from caffe2torch.layers._pooling import PoolWindow
from caffe2torch.layers._runtime.pool_sizes import pyramid_window
from caffe2torch.layers._spatial import require_axes, require_positive


@register_layer()
class SPP(Layer):
    """Pooling of the whole image in 2^l x 2^l bins for each level l (Caffe: spp_layer.cpp).

    Bottom (N, C, H, W). At level l, with 2^l bins on an axis, the kernel and stride are
    ``ceil(size / bins)`` and the pad half of what they exceed the image by, rounded up. The
    top (N, sum of C * bins^2) has the levels one after another, each flattened; a pyramid of
    one level stays (N, C, 1, 1). MAX, AVE and STOCHASTIC are those of Pooling.

    Default: MAX. Errors: no pyramid_height, not four axes, and what Pooling refuses: a level
    with so many bins that the pad is not smaller than the kernel.
    """

    type = "SPP"
    reads = NOTHING

    pyramid_height: int
    method: str

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = proto.spp_param
        method = enum_name(param, "pool")
        if param.pyramid_height < 1:
            raise net_error(proto, "it must be given and positive", "pyramid_height")
        if method == "STOCHASTIC" and proto.phase == enum_value("Phase", "TRAIN"):
            raise unsupported(proto, "STOCHASTIC draws at random in the TRAIN phase", "pool")
        return cls(name=proto.name, pyramid_height=param.pyramid_height, method=method)

    def _windows(self, sizes: Sequence[int]) -> Iterator[PoolWindow]:
        return (_level(2**level, sizes) for level in range(self.pyramid_height))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (shape,) = bottoms
        require_axes(self, shape)
        bins = 0
        for level, window in enumerate(self._windows(shape[2:])):
            if any(window.pad):
                self._check_pad(level, window, shape)
            sizes = window.output_sizes(shape[2:])
            require_positive(self, sizes, shape)
            bins += math.prod(sizes)
        return [(*shape[:2], 1, 1) if self.pyramid_height == 1 else (shape[0], shape[1] * bins)]

    def _check_pad(self, level: int, window: PoolWindow, shape: Shape) -> None:
        if self.method == "STOCHASTIC":
            raise self.net_error(
                f"level {level} needs padding on a bottom of shape {shape}, "
                "which STOCHASTIC pooling cannot have",
                "pool",
            )
        if any(p >= k for p, k in zip(window.pad, window.kernel, strict=True)):
            raise self.net_error(
                f"level {level} has too many bins for a bottom of shape {shape}: its pad "
                f"{window.pad} is not smaller than its kernel {window.kernel}",
                "pyramid_height",
            )

    def keeps_finite(self, bottoms: Sequence[Shape]) -> bool:
        sizes = bottoms[0][2:]
        return not any(window.has_empty(sizes) for window in self._windows(sizes))

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        t.check(self, inputs)
        return t.runtime.pyramid_pool(inputs[0], self.pyramid_height, self.method)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        (x,) = inputs
        sizes = g.shape(x)[2:]
        if self.method == "MAX" and self.non_finite:
            x = pooling.comparable_onnx(g, x)
        pool = {
            "MAX": pooling.max_pool_onnx,
            "AVE": pooling.average_pool_onnx,
            "STOCHASTIC": pooling.stochastic_pool_onnx,
        }[self.method]
        levels = [pool(g, x, window, sizes) for window in self._windows(sizes)]
        if len(levels) == 1:
            return levels
        flat = [g.op("Flatten", level, axis=1) for level in levels]
        return [g.op("Concat", *flat, axis=1)]


def _level(bins: int, sizes: Sequence[int]) -> PoolWindow:
    kernel, pad = pyramid_window(bins, sizes)
    return PoolWindow(kernel, kernel, pad)
