"""TanH: y = tanh(x)."""

from __future__ import annotations

from dataclasses import dataclass

from caffe2torch.layers import register_layer
from caffe2torch.layers._elementwise import SameOperator


@register_layer()
@dataclass(frozen=True)
class TanH(SameOperator):
    """y = (exp(2x) - 1) / (exp(2x) + 1) on any shape (Caffe: tanh_layer.cpp)."""

    type = "TanH"
    torch_module = "Tanh"
    onnx_operator = "Tanh"
    torch_function = "torch.tanh"
