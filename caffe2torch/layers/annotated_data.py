"""AnnotatedData: images with object annotations from a database (SSD)."""

from __future__ import annotations

from caffe2torch.layers import register_layer
from caffe2torch.layers._data import DataLayer


@register_layer()
class AnnotatedData(DataLayer):
    """Top 0: images (N, C, H, W), top 1: their boxes (SSD: annotated_data_layer.cpp)."""

    type = "AnnotatedData"
    parameter = "data_param"
