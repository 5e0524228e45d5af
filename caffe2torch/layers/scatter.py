"""Scatter: a part of the items for each process, of which there is one here."""

from __future__ import annotations

from caffe2torch.layers import register_layer
from caffe2torch.layers.gather import Gather


@register_layer()
class Scatter(Gather):
    """Each top is the bottom of its place, as in Gather (yjxiong/caffe, scatter_layer.cpp).

    In several processes each gets its part of the items.
    """

    type = "Scatter"
