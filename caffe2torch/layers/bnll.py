"""BNLL: y = log(1 + exp(x))."""

from __future__ import annotations

from collections.abc import Sequence

from caffe2torch.layers import register_layer
from caffe2torch.layers._builders import OnnxBuilder
from caffe2torch.layers._elementwise import SameOperator


@register_layer()
class BNLL(SameOperator):
    """Binomial normal log likelihood, y = log(1 + exp(x)), on any shape (Caffe: bnll_layer.cpp)."""

    type = "BNLL"
    works_in_place = True
    torch_class = "Softplus"

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        # As max(x, 0) + log(1 + exp(-|x|)): exp(x) is infinite from 89 on, in OpenCV too.
        softplus = g.op("Softplus", g.op("Neg", g.op("Abs", inputs[0])))
        return [g.op("Add", g.op("Relu", inputs[0]), softplus)]
