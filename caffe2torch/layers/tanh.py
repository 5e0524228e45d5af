"""TanH: y = tanh(x)."""

from __future__ import annotations

from collections.abc import Sequence

from caffe2torch.layers import register_layer
from caffe2torch.layers._base import OnnxBuilder
from caffe2torch.layers._elementwise import SameOperator
from caffe2torch.layers._onnx import tanh


@register_layer()
class TanH(SameOperator):
    """y = (exp(2x) - 1) / (exp(2x) + 1) on any shape (Caffe: tanh_layer.cpp)."""

    type = "TanH"
    works_in_place = True
    torch_class = "Tanh"

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [tanh(g, inputs[0])]
