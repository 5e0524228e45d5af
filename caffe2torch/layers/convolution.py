"""Convolution over any number of spatial axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.layers import OnnxBuilder, register_layer
from caffe2torch.layers._convolution import ConvolutionBase
from caffe2torch.layers._grid import Grid, of_windows
from caffe2torch.layers._spatial import Window, resolve_window


@register_layer()
class Convolution(ConvolutionBase):
    """y[o] = bias[o] + sum over c, k of weight[o, c, k] * x[c, stride * p + dilation * k - pad].

    Caffe: conv_layer.cpp, base_conv_layer.cpp. Bottoms (*batch, C, *spatial), tops
    (*batch, num_output, *output), weight (num_output, C / group, *kernel), bias
    (num_output). ``output = (size + 2 pad - extent) / stride + 1``, the quotient truncated
    towards zero, so that a kernel larger than the padded image by less than a stride has
    one output, which reads zeros beyond the image.

    Defaults: stride 1, pad 0, dilation 1, group 1, axis 1, bias_term true. Each of
    kernel_size, stride, pad and dilation is given once, or once an axis, or for two axes
    as ``_h`` and ``_w``. Errors: both forms at once, a wrong count, a zero kernel or stride,
    channels or num_output not divisible by group, an empty top.
    """

    type = "Convolution"
    torch_family = "Conv"
    torch_function = "conv"

    def grid(self) -> Grid:
        window = resolve_window(self, self.window, 2, still=True)
        return of_windows(window.extent, window.stride, window.pad)

    def _weight_channels(self, channels: int) -> tuple[int, int]:
        return self.num_output, channels // self.group

    def _output_sizes(self, window: Window, sizes: Sequence[int]) -> Shape:
        return window.output_sizes(sizes)

    def _excess(self, window: Window, sizes: Sequence[int]) -> Shape:
        return window.excess(sizes)

    def _compute_onnx(
        self, window: Window, g: OnnxBuilder, inputs: Sequence[str], sizes: Sequence[int]
    ) -> str:
        ends = [p + e for p, e in zip(window.pad, window.excess(sizes), strict=True)]
        pads = [*window.pad, *ends]
        if set(window.kernel) == {1} and any(pads):
            return self._points_onnx(window, g, inputs)
        lonely = self.group == 1 and g.array(g.params["weight"]).shape[1] == 1
        if lonely and len(sizes) > 1 and window.output_sizes(sizes)[-1] == 1 < window.stride[-1]:
            # OpenVINO 2026.4 reads other memory where one channel gives one column by a stride.
            still = replace(window, stride=(*window.stride[:-1], 1))
            y = self._conv_onnx(still, g, inputs, pads)
            return str(g.op("Slice", y, *(g.const([n], np.int64) for n in (0, 1, -1))))
        return self._conv_onnx(window, g, inputs, pads)

    def _conv_onnx(
        self, window: Window, g: OnnxBuilder, inputs: Sequence[str], pads: Sequence[int]
    ) -> str:
        return str(
            g.op(
                "Conv",
                *inputs,
                kernel_shape=list(window.kernel),
                strides=list(window.stride),
                pads=list(pads),
                # OpenVINO crashes where a kernel of one pixel is dilated, and OpenCV 5.0 fails.
                dilations=[
                    1 if k == 1 else d for k, d in zip(window.kernel, window.dilation, strict=True)
                ],
                group=self.group,
            )
        )

    def _points_onnx(self, window: Window, g: OnnxBuilder, inputs: Sequence[str]) -> str:
        """A padded convolution of single pixels.

        OpenCV 5.0 reads memory outside the input of a 1x1 Conv with pads, and simplifiers
        (onnxsim, onnxslim) make one of a Pad before a Conv. So the products are padded, and then
        the bias is added; or, with a stride, a Slice stands between Pad and Conv.
        """
        x, weight, *bias = inputs
        none, axes = [0] * (2 * len(window.pad)), range(2, 2 + len(window.pad))
        amounts = g.const([0, 0, *window.pad] * 2, np.int64)
        if set(window.stride) != {1}:
            bounds = [0] * len(axes), [np.iinfo(np.int64).max] * len(axes), axes, window.stride
            x = g.op("Pad", x, amounts)
            x = g.op("Slice", x, *(g.const(list(bound), np.int64) for bound in bounds))
            still = replace(window, stride=(1,) * len(axes))
            return self._conv_onnx(still, g, [x, weight, *bias], none)
        y = g.op("Pad", self._conv_onnx(window, g, [x, weight], none), amounts)
        if not bias:
            return str(y)
        shape = g.const([1, -1, *[1] * len(axes)], np.int64)
        return str(g.op("Add", y, g.op("Reshape", *bias, shape)))

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        axis, window = self.resolved(bottoms[0])
        one = bottoms[0][axis] // self.group * math.prod(window.kernel)
        return one * sum(math.prod(top) for top in tops)
