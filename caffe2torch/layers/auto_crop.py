"""AutoCrop: cropping to where the layers between put the other blob."""

from __future__ import annotations

from caffe2torch.layers import register_layer
from caffe2torch.layers.crop import Crop


@register_layer()
class AutoCrop(Crop):
    """Crop on rows and columns whose offsets follow from the layers between its bottoms.

    Fork: yun-liu/rcf, auto_crop_layer.cpp. passes/align_crops.py finds the offsets, and puts them
    into ``crop_param``. Errors: layers between that it cannot follow, an offset that is no
    whole number or negative.
    """

    type = "AutoCrop"
    aligns = True
