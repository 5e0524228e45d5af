"""Caffe's pooling over one to three spatial axes, for layers that pool."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from caffe2torch.graph import FloatArray, Shape
from caffe2torch.layers._builders import OnnxBuilder
from caffe2torch.layers._onnx import check_constant
from caffe2torch.layers._runtime.pool_sizes import pool_divisors, pooled_sizes

if TYPE_CHECKING:
    pass

_FLOAT = 1
"""ONNX's number for float32."""

LOWEST = float(np.finfo(np.float32).min)
"""What Caffe's MAX starts from, and so returns for a window without pixels."""


@dataclass(frozen=True)
class PoolWindow:
    """A pooling window on the spatial axes: sizes, and how the output size is rounded.

    ``drops`` says that Pooling leaves out a last window beyond the padded image.
    """

    kernel: Shape
    stride: Shape
    pad: Shape
    ceil: bool = True
    drops: bool = True

    def output_sizes(self, sizes: Sequence[int]) -> Shape:
        """``(size + 2 pad - kernel) / stride + 1``, rounded up or down.

        If either axis is padded, a last window that would start beyond the image and its
        first padding is left out; without padding it is kept, although it may be empty.
        """
        window = (self.kernel, self.stride, self.pad, self.ceil, self.drops)
        return tuple(pooled_sizes(sizes, *window))

    def _axes(self, sizes: Sequence[int]) -> Iterable[tuple[int, int, int, int, int]]:
        """Output size, size, kernel, stride and pad of each axis."""
        outputs = self.output_sizes(sizes)
        return zip(outputs, sizes, self.kernel, self.stride, self.pad, strict=True)

    def end_pad(self, sizes: Sequence[int]) -> Shape:
        """What to add after each axis so that the windows exactly fit; negative to drop."""
        return tuple((o - 1) * s + k - n - p for o, n, k, s, p in self._axes(sizes))

    def divisors(self, sizes: Sequence[int]) -> list[list[int]]:
        """The size of each window on each axis, clipped to the image padded on both sides.

        Their product is what AVE divides by. It is zero or negative for windows that lie
        outside the image.
        """
        window = (self.kernel, self.stride, self.pad, self.ceil, self.drops)
        return pool_divisors(sizes, *window)

    def pixels(self, sizes: Sequence[int]) -> list[list[int]]:
        """The size of each window on each axis, clipped to the image itself."""
        return [
            [min(i * s - p + k, n) - max(i * s - p, 0) for i in range(o)]
            for o, n, k, s, p in self._axes(sizes)
        ]

    def size_free_ends(self) -> Shape | None:
        """Pads after the axes with which rounding down is right for images of every size.

        Rounding up is rounding down with stride - 1 more pixels, which a MAX does not see. None
        if a window could then be empty.
        """
        more = self.stride if self.ceil else (1, 1)
        ends = tuple(p + s - 1 for p, s in zip(self.pad, more, strict=True))
        return ends if all(map(int.__lt__, ends, self.kernel)) else None

    def is_native(self) -> bool:
        """Whether torch's ceil mode agrees for images of every size.

        torch leaves the last window out without padding too, and refuses wide padding.
        """
        meets = all(s <= k for s, k in zip(self.stride, self.kernel, strict=True))
        narrow = all(2 * p <= k for p, k in zip(self.pad, self.kernel, strict=True))
        return narrow and (meets or any(self.pad))

    def has_empty(self, sizes: Sequence[int]) -> bool:
        """Whether the last window on an axis has no pixel of the image."""
        return any(after >= k for after, k in zip(self.end_pad(sizes), self.kernel, strict=True))


def comparable_onnx(g: OnnxBuilder, x: str) -> str:
    """``x`` with LOWEST for what is not above it: minus infinity and NaN."""
    lowest = g.const(LOWEST)
    return str(g.op("Where", g.op("Greater", x, lowest), x, lowest))


def max_pool_onnx(g: OnnxBuilder, x: str, window: PoolWindow, sizes: Sequence[int]) -> str:
    """MAX pooling without the mask, of an ``x`` of the spatial ``sizes``."""
    ends = window.size_free_ends() if g.free_sizes else None
    if ends is not None:
        kernel, stride, pads = list(window.kernel), list(window.stride), [*window.pad, *ends]
        return str(g.op("MaxPool", x, kernel_shape=kernel, strides=stride, pads=pads))
    x, _, attributes = _fitted(g, x, window, sizes, LOWEST)
    return str(g.op("MaxPool", x, **attributes))


def max_pool_mask_onnx(
    g: OnnxBuilder, x: str, window: PoolWindow, sizes: Sequence[int]
) -> tuple[str, str]:
    """MAX pooling with the mask, whose indices ONNX counts over the whole tensor."""
    x, grown, attributes = _fitted(g, x, window, sizes, LOWEST)
    height, width = (n + more for n, more in zip(sizes, grown, strict=True))
    y, index = g.op("MaxPool", x, outputs=2, **attributes)
    index = g.op("Mod", index, g.const(height * width, np.int64))
    if grown[1]:
        row = g.op("Div", index, g.const(width, np.int64))
        index = g.op("Sub", index, g.op("Mul", row, g.const(grown[1], np.int64)))
    mask = g.op("Cast", index, to=_FLOAT)
    if any(grown):
        found = g.op("Greater", y, g.const(LOWEST))
        mask = g.op("Where", found, mask, g.const(-1.0))
    return str(y), str(mask)


def average_pool_onnx(g: OnnxBuilder, x: str, window: PoolWindow, sizes: Sequence[int]) -> str:
    """``average_pool``: the mean of the image's pixels times a constant for each window."""
    y = _average(g, x, window, sizes)
    correction = _correction(window, sizes)
    return y if (correction == 1).all() else str(g.op("Mul", y, g.const(correction)))


def stochastic_pool_onnx(g: OnnxBuilder, x: str, window: PoolWindow, sizes: Sequence[int]) -> str:
    """``stochastic_pool``: the quotient of two averages that have the same divisor."""
    total = _average(g, x, window, sizes)
    squares = _average(g, g.op("Mul", x, x), window, sizes)
    positive = g.op("Greater", total, g.const(0.0))
    divisor = g.op("Where", positive, total, g.const(1.0))
    return str(g.op("Where", positive, g.op("Div", squares, divisor), g.const(0.0)))


def _average(g: OnnxBuilder, x: str, window: PoolWindow, sizes: Sequence[int]) -> str:
    # Padding is not counted: engines agree about that alone (OpenCV ignores the attribute).
    x, _, attributes = _fitted(g, x, window, sizes, 0.0)
    return str(g.op("AveragePool", x, **attributes))


def _correction(window: PoolWindow, sizes: Sequence[int]) -> FloatArray:
    """Pixels that ``_average`` divides by over those that Caffe divides by."""
    outputs = window.output_sizes(sizes)
    check_constant(max(math.prod(outputs), *outputs))
    if window.has_empty(sizes):
        counted = np.array(math.prod(window.kernel))
    else:
        counted = _product(window.pixels(sizes))
    with np.errstate(divide="ignore"):
        correction = counted / _product(window.divisors(sizes))
    return np.asarray(correction, np.float32)


def _product(sizes: Sequence[Sequence[int]]) -> FloatArray:
    """The products of a number of each axis, with an axis for each."""
    return np.asarray(reduce(np.multiply.outer, [np.array(n, np.float64) for n in sizes]))


def _fitted(
    g: OnnxBuilder, x: str, window: PoolWindow, sizes: Sequence[int], fill: float
) -> tuple[str, Shape, dict[str, Any]]:
    """Pads with which rounding down gives Caffe's output size, as operator attributes.

    An operator may not be padded by a whole window. If one is empty, ``x`` itself grows
    after each axis by the sizes returned second.
    """
    grown: Shape = tuple(max(0, after) for after in window.end_pad(sizes))
    pads = [*window.pad, *grown]
    if window.has_empty(sizes):
        amounts = [0, 0, *window.pad, 0, 0, *grown]
        x = g.op("Pad", x, g.const(amounts, np.int64), g.const(fill))
        pads = [0] * len(pads)
    else:
        grown = (0,) * len(sizes)
    kernel, stride = list(window.kernel), list(window.stride)
    return x, grown, {"kernel_shape": kernel, "strides": stride, "pads": pads}
