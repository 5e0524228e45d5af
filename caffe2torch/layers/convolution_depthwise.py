"""Depthwise convolution of the fork with a layer type of its own."""

from __future__ import annotations

from collections.abc import Sequence

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import register_layer
from caffe2torch.layers.convolution import Convolution


@register_layer()
class ConvolutionDepthwise(Convolution):
    """Convolution of each channel with its own kernel: weight (C, 1, *kernel).

    Fork: sp2823/caffe, conv_dw_layer.cpp. ``group`` is ignored. Other fields, shapes and
    errors are those of Convolution; moreover num_output must be the number of channels.
    """

    type = "ConvolutionDepthwise"

    @classmethod
    def _group(cls, proto: Message) -> int:
        return int(proto.convolution_param.num_output)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        axis, _ = self.resolved(bottoms[0])
        if bottoms[0][axis] != self.num_output:
            raise self.net_error(
                f"{self.num_output} outputs of a bottom with {bottoms[0][axis]} channels; "
                "a depthwise convolution has as many of both",
                "num_output",
            )
        return super().infer_shapes(bottoms)
