"""Gather: the items of all processes, of which there is one here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.layers import NOTHING, Layer, OnnxBuilder, TorchBuilder, register_layer


@register_layer()
class Gather(Layer):
    """Each top is the bottom of its place (forks that train in several processes).

    yjxiong/caffe and Lyp100208/Caffe_action, gather_layer.cpp. In several processes each top has
    the items of all of them; a converted net is one process, and y = x.
    """

    type = "Gather"
    reads = NOTHING
    bottoms = (1, None)
    tops = (1, None)
    same_bottoms_and_tops = True
    shares_pixels = True
    works_in_place = True

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        return list(bottoms)

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        copies = [value.clone() for value in inputs]
        return copies if len(copies) > 1 else copies[0]

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [g.op("Identity", value) for value in inputs]
