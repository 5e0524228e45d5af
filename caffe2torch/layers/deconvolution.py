"""Deconvolution (transposed convolution) over any number of spatial axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffe2torch.graph import Shape
from caffe2torch.layers import register_layer
from caffe2torch.layers._base import OnnxBuilder
from caffe2torch.layers._convolution import ConvolutionBase, torch_module
from caffe2torch.layers._spatial import Window, col2im

if TYPE_CHECKING:
    from torch import Tensor, nn


@register_layer()
@dataclass(frozen=True)
class Deconvolution(ConvolutionBase):
    """y[o, stride * p + dilation * k - pad] += weight[c, o, k] * x[c, p], plus bias[o].

    Caffe: deconv_layer.cpp, base_conv_layer.cpp. Bottoms (*batch, C, *spatial), tops
    (*batch, num_output, *output) with ``output = stride (size - 1) + extent - 2 pad``,
    weight (C, num_output / group, *kernel), bias (num_output). Defaults, fields and errors
    are those of Convolution.
    """

    type = "Deconvolution"
    torch_family = "ConvTranspose"

    def _weight_channels(self, channels: int) -> tuple[int, int]:
        return channels, self.num_output // self.group

    def _output_sizes(self, window: Window, sizes: Sequence[int]) -> Shape:
        return tuple(
            s * (n - 1) + e - 2 * p
            for n, s, e, p in zip(sizes, window.stride, window.extent, window.pad, strict=True)
        )

    def to_torch(self, bottoms: Sequence[Shape]) -> nn.Module:
        if not self.is_plain(bottoms):
            return super().to_torch(bottoms)
        num_axes = len(bottoms[0]) - 2
        return torch_module(self.torch_family, num_axes)(**self.module_arguments(bottoms))

    def _compute(self, window: Window, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        from torch.nn import functional as f

        num_axes = len(window.kernel)
        if num_axes > 3:
            return self._sum_of_columns(window, x, weight, bias)
        deconvolve = (f.conv_transpose1d, f.conv_transpose2d, f.conv_transpose3d)[num_axes - 1]
        y: Tensor = deconvolve(
            x,
            weight,
            bias,
            stride=window.stride,
            padding=window.pad,
            groups=self.group,
            dilation=window.dilation,
        )
        return y

    def _sum_of_columns(
        self, window: Window, x: Tensor, weight: Tensor, bias: Tensor | None
    ) -> Tensor:
        sizes = x.shape[2:]
        channels = x.shape[1] // self.group
        rows = weight.numel() // x.shape[1]
        pixels = x.reshape(len(x), self.group, channels, math.prod(sizes))
        columns = weight.reshape(self.group, channels, rows).transpose(1, 2) @ pixels
        columns = columns.reshape(len(x), self.num_output, *window.kernel, *sizes)
        y = col2im(columns, window, self._output_sizes(window, sizes))
        return y if bias is None else y + bias.reshape(-1, *[1] * len(sizes))

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
