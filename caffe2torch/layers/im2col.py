"""The windows of a convolution as columns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    TorchBuilder,
    canonical_axis,
    register_layer,
)
from caffe2torch.layers._onnx import check_constant
from caffe2torch.layers._spatial import (
    HOLES,
    Window,
    require_positive,
    resolve_window,
    window_from_proto,
)


@register_layer()
class Im2col(Layer):
    """y[c * K + k, p] = x[c, stride * p + dilation * k - pad] (Caffe: im2col_layer.cpp).

    Bottom (*batch, C, *spatial), top (*batch, C * K, *output), where K counts the kernel's
    elements, row by row, and pixels outside the image are 0. Fields, defaults, output sizes
    and errors are those of Convolution; at least one spatial axis is needed.
    """

    type = "Im2col"
    parameters = HOLES

    axis: int
    window: Window

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = proto.convolution_param
        return cls(name=proto.name, axis=param.axis, window=window_from_proto(proto, param))

    def _resolved(self, bottom: Shape) -> tuple[int, Window]:
        axis = canonical_axis(self, self.axis, len(bottom))
        if axis + 1 == len(bottom):
            raise self.net_error(f"no spatial axis follows axis {axis}", "axis")
        return axis, resolve_window(self, self.window, len(bottom) - axis - 1, still=True)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (bottom,) = bottoms
        axis, window = self._resolved(bottom)
        sizes = window.output_sizes(bottom[axis + 1 :])
        require_positive(self, sizes, bottom)
        return [(*bottom[:axis], bottom[axis] * math.prod(window.kernel), *sizes)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        (x,) = inputs
        axis, w = self._resolved(bottoms[0])
        y = x
        if axis != 1:  # To one axis of items before the channels, and back.
            y = t.torch.flatten(x, 0, axis - 1) if axis else x[None]
        columns = t.runtime.im2col(y, w.kernel, w.stride, w.pad, w.dilation)
        y = t.torch.flatten(columns, 1, 1 + len(w.kernel))
        if axis != 1:
            y = t.torch.unflatten(y, 0, x.shape[:axis]) if axis else y[0]
        return y

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        (x,) = inputs
        shape = g.shape(x)
        axis, window = self._resolved(shape)
        (top,) = self.infer_shapes([shape])
        sizes = shape[axis + 1 :]
        # Channels apart, so that nothing depends on the size of the axes before them.
        x = g.op("Reshape", x, g.const([-1, *sizes], np.int64))
        margins = [p + e for p, e in zip(window.pad, window.excess(sizes), strict=True)]
        x = g.op("Pad", x, g.const([0, *window.pad, 0, *margins], np.int64))
        # Each spatial axis becomes two: the place in the kernel, and the window.
        count = len(window.kernel)
        steps = zip(window.kernel, window.dilation, window.stride, top[axis + 1 :], strict=True)
        for position, (kernel, dilation, stride, size) in enumerate(steps):
            index = np.arange(kernel)[:, None] * dilation + np.arange(size) * stride
            check_constant(index.size)
            x = g.op("Gather", x, g.const(index, np.int64), axis=1 + 2 * position)
        order = [0, *range(1, 2 * count, 2), *range(2, 2 * count + 1, 2)]
        y = g.op("Transpose", x, perm=order)
        return [g.op("Reshape", y, g.const([-1, *top[1:]], np.int64))]
