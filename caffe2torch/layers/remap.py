"""Remap: an image read at the places that a second bottom gives."""

from __future__ import annotations

from caffe2torch.layers import register_layer
from caffe2torch.layers._sampling import Sampling


@register_layer()
class Remap(Sampling):
    """y[p] = image[places[p]], bilinear between the four pixels around, which are 0 outside.

    Fork: tinghuiz/appearance-flow, remap_layer.cpp. Bottoms: image (N, C, H, W), places
    (N, 2, H', W'), the column and then the row, from 0. Top (N, C, H', W'). Errors: other shapes.
    """

    type = "Remap"
