"""NdConvolution: convolution over any number of axes, as forks for videos write it."""

from __future__ import annotations

from dataclasses import replace

from caffe2torch.io.schema import Message
from caffe2torch.layers import TEXT_ONLY, Layer, Parameters, net_error, register_layer
from caffe2torch.layers._spatial import Window
from caffe2torch.layers.convolution import Convolution


@register_layer()
class NdConvolution(Convolution):
    """Convolution whose window is ``kernel_shape``, ``stride_shape`` and ``pad_shape``.

    video-caffe: cudnn_ndconv_layer.cpp. Each is a BlobShape with a value for every axis after
    the channels; strides default to 1, pads to 0. Formula, blobs and other errors are
    Convolution's. Errors: no kernel_shape; a field of Caffe's window beside it.
    """

    type = "NdConvolution"
    parameters = Parameters(
        "convolution_param",
        f"""
        optional BlobShape kernel_shape = {TEXT_ONLY};
        optional BlobShape stride_shape = {TEXT_ONLY + 1};
        optional BlobShape pad_shape = {TEXT_ONLY + 2};
        """,
    )

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        layer = super().from_proto(proto)
        assert isinstance(layer, NdConvolution)
        param, written = cls.parameters.of(proto), layer.window
        if not param.kernel_shape.dim:
            raise net_error(proto, "must be given", "convolution_param.kernel_shape")
        if written.kernel or written.stride or written.pad or written.dilation:
            raise net_error(
                proto, "Caffe's fields of the window are given beside it", "kernel_shape"
            )
        shapes = (param.kernel_shape, param.stride_shape, param.pad_shape)
        kernel, stride, pad = (tuple(shape.dim) for shape in shapes)
        return replace(layer, window=Window(kernel, stride, pad, ()))
