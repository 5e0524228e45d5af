"""BinaryInnerProduct: the fully connected layer by the signs of its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, OnnxBuilder, Parameters, TorchBuilder, register_layer
from caffe2torch.layers._binary import BINARY, binary_weight
from caffe2torch.layers.inner_product import InnerProduct


@register_layer()
class BinaryInnerProduct(InnerProduct):
    """InnerProduct whose weight counts as its sign: 1, of negative numbers -1.

    Fork: zhaoweicai/hwgq, binary_inner_product_layer.cpp. ``use_alpha`` and ``use_binarization``
    are those of BinaryConvolution, the other fields, shapes and errors those of InnerProduct, but
    ``transpose`` is ignored.
    """

    type = "BinaryInnerProduct"
    parameters = Parameters("binary_inner_product_param", BINARY)

    binary: bool = True
    use_alpha: bool = False

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        layer = super().from_proto(proto)
        assert isinstance(layer, cls)
        param = cls.parameters.of(proto)
        return replace(
            layer, transpose=False, binary=param.use_binarization, use_alpha=param.use_alpha
        )

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return None if self.binary else super().torch_module(t, bottoms)

    def _product(self, t: TorchBuilder, x: Any) -> Any:
        if not self.binary:
            return super()._product(t, x)
        weight = t.runtime.binary_weight(t.params.weight, self.use_alpha)
        return t.F.linear(x, weight, t.params.bias if self.bias_term else None)

    def _weight_onnx(self, g: OnnxBuilder) -> str:
        weight = super()._weight_onnx(g)
        if not self.binary:
            return weight
        return g.const(binary_weight(g.array(weight), self.use_alpha))
