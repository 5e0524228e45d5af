"""BNLL: y = log(1 + exp(x))."""

from __future__ import annotations

from dataclasses import dataclass

from caffe2torch.layers import register_layer
from caffe2torch.layers._elementwise import SameOperator


@register_layer()
@dataclass(frozen=True)
class BNLL(SameOperator):
    """Binomial normal log likelihood, y = log(1 + exp(x)), on any shape (Caffe: bnll_layer.cpp)."""

    type = "BNLL"
    torch_module = "Softplus"
    onnx_operator = "Softplus"
    torch_function = "F.softplus"
