"""Convolution3D: C3D's convolution over time, rows and columns."""

from __future__ import annotations

from caffe2torch.layers import register_layer
from caffe2torch.layers._volumes import VolumeConvolution
from caffe2torch.layers.convolution import Convolution


@register_layer()
class Convolution3D(VolumeConvolution, Convolution):
    """Convolution of a bottom (N, C, L, H, W) by kernels of kernel_depth, then kernel_size twice.

    C3D: convolution3d_layer.cpp. Strides are temporal_stride, stride, stride, pads temporal_pad,
    pad, pad; formula and sizes are Convolution's. Weight (num_output, C, *kernel), bias
    (num_output). C3D 1.1 has the fields in ``convolution3d_param``, 1.0 (CONVOLUTION3D) in
    ``convolution_param``. ``filter_group`` only saves memory, ``group`` is not read. Errors: no
    num_output, kernel_size or kernel_depth, a zero stride, not five axes, an empty top.
    """

    type = "Convolution3D"
