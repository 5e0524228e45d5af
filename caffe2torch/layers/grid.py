"""Grid: the place of each pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.layers import NOTHING, Layer, OnnxBuilder, TorchBuilder, register_layer
from caffe2torch.layers._onnx import check_constant
from caffe2torch.layers._spatial import require_axes


@register_layer()
class Grid(Layer):
    """The column and the row of each pixel, from 0, as channels (N, 2, H, W) of x (N, C, H, W).

    Fork: twhui/LiteFlowNet, grid_layer.cpp. The bottom gives the sizes alone. Errors: not four
    axes. There is no gradient.
    """

    type = "Grid"
    reads = NOTHING
    barred_bottoms = frozenset({0})

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        require_axes(self, bottoms[0])
        batch, _, height, width = bottoms[0]
        return [(batch, 2, height, width)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.runtime.pixel_places(inputs[0])

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        height, width = g.shape(inputs[0])[2:]
        check_constant(2 * height * width)
        rows, columns = np.indices((height, width), np.float32)
        batch = g.op(
            "Slice", g.op("Shape", inputs[0]), g.const([0], np.int64), g.const([1], np.int64)
        )
        sizes = g.op("Concat", batch, g.const([1, 1, 1], np.int64), axis=0)
        return [g.op("Expand", g.const(np.stack([columns, rows])[None]), sizes)]
