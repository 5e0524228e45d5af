"""HardSwish: y = x * min(max(x + 3, 0), 6) / 6."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.layers import NOTHING, Layer, OnnxBuilder, Reads, TorchBuilder, register_layer


@register_layer()
class HardSwish(Layer):
    """The activation of MobileNetV3 on any shape.

    Forks: hard_swish_layer.cpp of Zeitzmz/micronet-caffe and Synopsys' Caffe.
    """

    type = "HardSwish"
    works_in_place = True

    def backward_reads(self, in_place: bool) -> Reads:
        return NOTHING if in_place else Reads()  # In place the forks keep a copy of the bottom.

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return t.nn.Hardswish()

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [g.op("HardSwish", inputs[0])]
