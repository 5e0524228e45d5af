"""BinaryConvolution: convolution by the signs of its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, OnnxBuilder, Parameters, TorchBuilder, register_layer
from caffe2torch.layers._binary import BINARY, binary_weight
from caffe2torch.layers._convolution import has_module
from caffe2torch.layers._spatial import Window
from caffe2torch.layers.convolution import Convolution


@register_layer()
class BinaryConvolution(Convolution):
    """Convolution whose weight counts as its sign: 1, of negative numbers -1.

    Fork: zhaoweicai/hwgq, binary_conv_layer.cpp. With ``use_alpha`` (default false) the signs of
    each output are multiplied by the mean of its weights' absolute values. The gradient of the
    signs is that of the weights. ``use_binarization: false`` makes it a Convolution, whose fields,
    shapes and errors it has.
    """

    type = "BinaryConvolution"
    parameters = Parameters("binary_convolution_param", BINARY)

    binary: bool = True
    use_alpha: bool = False

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        layer = super().from_proto(proto)
        assert isinstance(layer, cls)
        param = cls.parameters.of(proto)
        return replace(layer, binary=param.use_binarization, use_alpha=param.use_alpha)

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return None if self.binary else super().torch_module(t, bottoms)

    def _convolved(self, t: TorchBuilder, window: Window, x: Any) -> Any:
        if not self.binary:
            return super()._convolved(t, window, x)
        weight = t.runtime.binary_weight(t.params.weight, self.use_alpha)
        if not has_module(window):
            return self._of_columns(t, window, x, weight)
        return getattr(t.F, f"conv{len(window.kernel)}d")(
            x,
            weight,
            t.params.bias if self.bias_term else None,
            stride=window.stride,
            padding=window.pad,
            dilation=window.dilation,
            groups=self.group,
        )

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        weight, *bias = (g.params[name] for name in ("weight", "bias") if name in g.params)
        if self.binary:
            weight = g.const(binary_weight(g.array(weight), self.use_alpha))
        return [self._apply_onnx(g, x, [weight, *bias]) for x in inputs]
