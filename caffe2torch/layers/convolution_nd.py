"""ConvolutionND: convolution over any number of axes, as forks for volumes write it."""

from __future__ import annotations

from dataclasses import replace

from caffe2torch.io.schema import Message
from caffe2torch.layers import TEXT_ONLY, Layer, Parameters, net_error, register_layer
from caffe2torch.layers.convolution import Convolution


@register_layer("ConvolutionND", "ConvolutionSK")
class ConvolutionND(Convolution):
    """Convolution that calls the dilation ``kstride``.

    The fork of caffe_neural_tool: conv_nd_layer.cpp; ConvolutionSK is its form for two axes,
    conv_sk_layer.cpp. Formula, blobs, fields and errors are Convolution's.
    """

    type = "ConvolutionND"
    parameters = Parameters(
        "convolution_param",
        f"""
        repeated uint32 kstride = {TEXT_ONLY};
        optional uint32 kstride_h = {TEXT_ONLY + 1};
        optional uint32 kstride_w = {TEXT_ONLY + 2};
        """,
    )

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        layer = super().from_proto(proto)
        assert isinstance(layer, ConvolutionND)
        param = cls.parameters.of(proto)
        steps = tuple(param.kstride)
        if param.HasField("kstride_h") or param.HasField("kstride_w"):
            steps = (param.kstride_h or 1, param.kstride_w or 1)
        if steps and layer.window.dilation:
            raise net_error(proto, "dilation is given beside it", "convolution_param.kstride")
        return replace(layer, window=replace(layer.window, dilation=steps or layer.window.dilation))
