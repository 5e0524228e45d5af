"""TanH: y = tanh(x)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.layers import Backward, Reads, TorchBuilder, register_layer
from caffe2torch.layers._builders import OnnxBuilder
from caffe2torch.layers._elementwise import SameOperator
from caffe2torch.layers._onnx import tanh


@register_layer()
class TanH(SameOperator):
    """y = (exp(2x) - 1) / (exp(2x) + 1) on any shape (Caffe: tanh_layer.cpp)."""

    type = "TanH"
    reads = Reads(slice(0), slice(None))
    works_in_place = True
    torch_class = "Tanh"

    def gradient(self, t: TorchBuilder, found: Backward) -> Sequence[Any]:
        return [found.diffs[0] * (1 - found.tops[0].square())]

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [tanh(g, inputs[0])]
