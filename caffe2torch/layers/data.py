"""Data: images from a LevelDB or LMDB database."""

from __future__ import annotations

from caffe2torch.layers import register_layer
from caffe2torch.layers._data import DataLayer


@register_layer()
class Data(DataLayer):
    """Top 0: images (N, C, H, W), top 1: their labels (Caffe: data_layer.cpp)."""

    type = "Data"
    parameter = "data_param"
