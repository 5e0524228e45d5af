"""ROIWarping: values of regions of a map at the first corners of a grid's bins (MNC)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    register_layer,
)
from caffe2torch.layers._regions import (
    between_cells_onnx,
    bin_places_onnx,
    cells_beside_onnx,
    check_regions,
    pooled_size,
)


@register_layer()
class ROIWarping(Layer):
    """Bilinear values where a region's bins start (daijifeng001/caffe-mnc, roi_warping_layer.cu).

    Bottoms: a map (N, C, H, W); regions (R, 5), rows (image, x1, y1, x2, y2) in the pixels of
    the image. The top is (R, C, ``pooled_h``, ``pooled_w``). Corners are multiplied by
    ``spatial_scale`` (default 1) and rounded, halves away from zero. Bin i of n starts at
    x1 + i max(x2 - x1, 0) / n; the value is 0 more than half a cell outside of the map. Errors:
    a size of 0. An image index outside the batch is an error at run time. No gradient goes to
    the regions.
    """

    type = "ROIWarping"
    parameters = Parameters(
        "roi_warping_param",
        """
        optional uint32 pooled_h = 1 [default = 0];
        optional uint32 pooled_w = 2 [default = 0];
        optional float spatial_scale = 3 [default = 1];
        """,
    )
    bottoms = (2, 2)

    pooled: tuple[int, int]
    spatial_scale: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = cls.parameters.of(proto)
        return cls(proto.name, pooled_size(proto, cls.parameters), p.spatial_scale)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        check_regions(self, *bottoms)
        return [(bottoms[1][0], bottoms[0][1], *self.pooled)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.runtime.roi_warp(*inputs, self.pooled, self.spatial_scale)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        height, width = g.shape(inputs[0])[2:]
        regions = g.op("Reshape", inputs[1], g.const([-1, 5], np.int64))
        image, corners = g.op("Split", regions, g.const([1, 4], np.int64), axis=1, outputs=2)
        corners = _rounded_onnx(g, g.op("Mul", corners, g.const(self.spatial_scale)))
        ones = g.const([1, 1, 1, 1], np.int64)
        x1, y1, x2, y2 = g.op("Split", corners, ones, axis=1, outputs=4)
        rows = _starts_onnx(g, y1, y2, self.pooled[0], height, 2)
        columns = _starts_onnx(g, x1, x2, self.pooled[1], width, 1)
        return [between_cells_onnx(g, inputs[0], image, rows, columns)]


def _starts_onnx(
    g: OnnxBuilder, first: str, last: str, count: int, limit: int, axis: int
) -> list[tuple[str, str]]:
    """``bin_starts`` with an axis of 1 inserted at ``axis``."""
    zero = g.const(0.0)
    size = g.op("Max", g.op("Sub", last, first), zero)
    place = bin_places_onnx(g, first, size, count, count)
    return cells_beside_onnx(g, place, g.op("GreaterOrEqual", size, zero), limit, axis)


def _rounded_onnx(g: OnnxBuilder, value: str) -> str:
    """C's round: halves go away from zero. Adding 0.5 could round up what is below a half."""
    size = g.op("Abs", value)
    whole = g.op("Floor", size)
    half = g.op("Floor", g.op("Mul", g.const(2.0), g.op("Sub", size, whole)))
    return str(g.op("Mul", g.op("Sign", value), g.op("Add", whole, half)))
