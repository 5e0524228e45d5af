"""L2Normalize: each item of a batch at length one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, register_layer

EPS = 1e-7


@register_layer()
class L2Normalize(Layer):
    """y = x / sqrt(sum(x ** 2) + 1e-7) with the sum over an item, for x (N, C, ..).

    Fork: C3D (facebookarchive/C3D, l2_normalize_layer.cpp). The top has the bottom's shape.
    Errors: fewer than two axes.
    """

    type = "L2Normalize"

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        if len(bottoms[0]) < 2:
            raise self.net_error(f"a bottom of shape {bottoms[0]} has fewer than two axes")
        return [bottoms[0]]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        (x,) = inputs
        axes = list(range(1, len(bottoms[0])))
        return x / t.torch.sqrt(t.torch.sum(t.torch.square(x), axes, keepdim=True) + EPS)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        (x,) = inputs
        squares = g.op("ReduceSumSquare", x, axes=list(range(1, len(g.shape(x)))), keepdims=1)
        return [g.op("Div", x, g.op("Sqrt", g.op("Add", squares, g.const(EPS))))]
