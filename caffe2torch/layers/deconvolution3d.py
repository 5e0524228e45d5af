"""Deconvolution3D: C3D's transposed convolution over time, rows and columns."""

from __future__ import annotations

from caffe2torch.layers import register_layer
from caffe2torch.layers._volumes import VolumeConvolution
from caffe2torch.layers.deconvolution import Deconvolution


@register_layer()
class Deconvolution3D(VolumeConvolution, Deconvolution):
    """Deconvolution of a bottom (N, C, L, H, W) by kernels of kernel_depth, then kernel_size twice.

    C3D: deconvolution3d_layer.cpp. Weight (C, num_output, *kernel); formula and sizes are
    Deconvolution's, fields and errors those of Convolution3D.
    """

    type = "Deconvolution3D"
