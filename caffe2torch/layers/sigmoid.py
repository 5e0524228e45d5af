"""Sigmoid: y = 1 / (1 + exp(-x))."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.layers import Backward, Reads, TorchBuilder, register_layer
from caffe2torch.layers._elementwise import SameOperator


@register_layer()
class Sigmoid(SameOperator):
    """y = 1 / (1 + exp(-x)) on any shape (Caffe: sigmoid_layer.cpp)."""

    type = "Sigmoid"
    reads = Reads(slice(0), slice(None))
    works_in_place = True
    torch_class = "Sigmoid"
    onnx_operator = "Sigmoid"

    def gradient(self, t: TorchBuilder, found: Backward) -> Sequence[Any]:
        return [found.diffs[0] * found.tops[0] * (1 - found.tops[0])]
