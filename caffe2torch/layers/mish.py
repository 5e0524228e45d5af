"""Mish: y = x * tanh(log(1 + exp(x)))."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, register_layer
from caffe2torch.layers._onnx import tanh


@register_layer()
class Mish(Layer):
    """The activation of YOLOv4 on any shape.

    Forks: mish_layer.cpp of Synopsys' Caffe and troyliu0105/caffe.
    """

    type = "Mish"
    works_in_place = True

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return t.nn.Mish()

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [g.op("Mul", inputs[0], tanh(g, g.op("Softplus", inputs[0])))]
