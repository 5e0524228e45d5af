"""AnnotatedData: images with object annotations from a database (SSD)."""

from __future__ import annotations

from caffe2torch.layers import register_layer
from caffe2torch.layers._data import DataLayer


@register_layer()
class AnnotatedData(DataLayer):
    """Top 0: images (N, C, H, W), top 1: their boxes (SSD: annotated_data_layer.cpp).

    In eric612/MobileNet-YOLO a third top has their segmentation.
    """

    type = "AnnotatedData"
    tops = (1, 3)
    parameter = "data_param"
