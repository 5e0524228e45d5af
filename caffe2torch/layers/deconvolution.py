"""Deconvolution (transposed convolution) over any number of spatial axes."""

from __future__ import annotations

import math
from collections.abc import Sequence

from caffe2torch.graph import Shape
from caffe2torch.layers import OnnxBuilder, register_layer
from caffe2torch.layers._convolution import ConvolutionBase
from caffe2torch.layers._grid import Grid, of_windows
from caffe2torch.layers._spatial import Window, resolve_window


@register_layer()
class Deconvolution(ConvolutionBase):
    """y[o, stride * p + dilation * k - pad] += weight[c, o, k] * x[c, p], plus bias[o].

    Caffe: deconv_layer.cpp, base_conv_layer.cpp. Bottoms (*batch, C, *spatial), tops
    (*batch, num_output, *output) with ``output = stride (size - 1) + extent - 2 pad``,
    weight (C, num_output / group, *kernel), bias (num_output). Defaults, fields and errors
    are those of Convolution.
    """

    type = "Deconvolution"
    torch_family = "ConvTranspose"
    torch_function = "conv_transpose"

    def grid(self) -> Grid:
        window = resolve_window(self, self.window, 2, still=True)
        return of_windows(window.extent, window.stride, window.pad).inverse()

    def _weight_channels(self, channels: int) -> tuple[int, int]:
        return channels, self.num_output // self.group

    def _output_sizes(self, window: Window, sizes: Sequence[int]) -> Shape:
        return tuple(
            s * (n - 1) + e - 2 * p
            for n, s, e, p in zip(sizes, window.stride, window.extent, window.pad, strict=True)
        )

    def _compute_onnx(
        self, window: Window, g: OnnxBuilder, inputs: Sequence[str], sizes: Sequence[int]
    ) -> str:
        return str(
            g.op(
                "ConvTranspose",
                *inputs,
                kernel_shape=list(window.kernel),
                strides=list(window.stride),
                pads=[*window.pad, *window.pad],
                dilations=list(window.dilation),
                group=self.group,
            )
        )

    def multiply_adds(self, bottoms: Sequence[Shape], tops: Sequence[Shape]) -> int:
        _, window = self.resolved(bottoms[0])
        one = self.num_output // self.group * math.prod(window.kernel)
        return one * sum(math.prod(bottom) for bottom in bottoms)
