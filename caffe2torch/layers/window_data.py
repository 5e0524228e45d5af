"""WindowData: windows cut from images (R-CNN)."""

from __future__ import annotations

from caffe2torch.layers import register_layer
from caffe2torch.layers._data import DataLayer


@register_layer()
class WindowData(DataLayer):
    """Top 0: windows (N, C, H, W), top 1: their labels (Caffe: window_data_layer.cpp)."""

    type = "WindowData"
    tops = (2, 2)
    parameter = "window_data_param"
