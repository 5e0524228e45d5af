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
        return axis, resolve_window(self, self.window, len(bottom) - axis - 1)

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
        # Each channel by itself, so that nothing depends on the size of the first axis.
        x = g.op("Reshape", x, g.const([-1, 1, *sizes], np.int64))
        y = _picking_convolution(g, x, window, sizes)
        return [g.op("Reshape", y, g.const([-1, *top[1:]], np.int64))]


def _picking_convolution(g: OnnxBuilder, x: str, window: Window, sizes: Sequence[int]) -> str:
    """A convolution with one kernel for each pixel of the window: 1 there, 0 elsewhere."""
    count = math.prod(window.kernel)
    check_constant(count * count)
    kernels = np.eye(count, dtype=np.float32).reshape(count, 1, *window.kernel)
    ends = [p + e for p, e in zip(window.pad, window.excess(sizes), strict=True)]
    return str(
        g.op(
            "Conv",
            x,
            g.const(kernels),
            kernel_shape=list(window.kernel),
            strides=list(window.stride),
            pads=[*window.pad, *ends],
            dilations=list(window.dilation),
        )
    )
