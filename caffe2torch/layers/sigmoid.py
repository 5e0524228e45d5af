"""Sigmoid: y = 1 / (1 + exp(-x))."""

from __future__ import annotations

from caffe2torch.layers import register_layer
from caffe2torch.layers._elementwise import SameOperator


@register_layer()
class Sigmoid(SameOperator):
    """y = 1 / (1 + exp(-x)) on any shape (Caffe: sigmoid_layer.cpp)."""

    type = "Sigmoid"
    works_in_place = True
    torch_class = "Sigmoid"
    onnx_operator = "Sigmoid"
