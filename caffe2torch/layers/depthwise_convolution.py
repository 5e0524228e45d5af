"""Depthwise convolution of the fork that adds a fast kernel to Convolution."""

from __future__ import annotations

from caffe2torch.io.schema import Message
from caffe2torch.layers import register_layer
from caffe2torch.layers.convolution import Convolution


@register_layer()
class DepthwiseConvolution(Convolution):
    """Convolution whose group, where the net gives none, is num_output.

    Fork: yonghenglh6/DepthwiseConvolution, depthwise_conv_layer.cpp. Shapes, defaults and
    errors are those of Convolution.
    """

    type = "DepthwiseConvolution"

    @classmethod
    def _group(cls, proto: Message) -> int:
        param = proto.convolution_param
        return int(param.group if param.HasField("group") else param.num_output)
