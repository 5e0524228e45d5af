"""MaskPooling: maps multiplied by a mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, register_layer


@register_layer()
class MaskPooling(Layer):
    """y[n, c] = x[n, c] * mask[n, 0], for x (N, C, H, W) and a mask (N, 1, H, W).

    Forks: daijifeng001/caffe-mnc and BestSonny/SSTD, mask_pooling_layer.cu. Errors: other sizes, or
    a mask of more than one channel, of which that code reads none rightly.
    """

    type = "MaskPooling"
    bottoms = (2, 2)
    works_in_place = True

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        x, mask = bottoms
        if len(x) != 4 or mask != (x[0], 1, *x[2:]):
            raise self.net_error(f"a mask of shape {mask} does not fit a bottom of shape {x}")
        return [x]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return inputs[0] * inputs[1]

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [g.op("Mul", *inputs)]
