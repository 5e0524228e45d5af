"""ROIAlign: values of regions of a map on the corners of a grid (MS-CNN)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.layers import OnnxBuilder, TorchBuilder, register_layer
from caffe2torch.layers._regions import (
    PooledRegions,
    between_cells_onnx,
    bin_places_onnx,
    cells_beside_onnx,
    check_regions,
    pad_regions_onnx,
)


@register_layer()
class ROIAlign(PooledRegions):
    """Bilinear values on the corners of a region's bins (MS-CNN's Caffe: roi_align_layer.cpp).

    Bottoms: a map (N, C, H, W); regions (R, 5), rows (image, x1, y1, x2, y2) in the pixels of
    the image. The top is (R, C, ``pooled_h`` + 1, ``pooled_w`` + 1): nets average it with a
    window of 2. ``pad_ratio`` (default 0) makes regions longer as in ROIPooling; corners are
    multiplied by ``spatial_scale`` (1) and moved by -0.5. Corner i of n bins is at
    x1 + i (x2 - x1) / n; more than half a cell outside of the map, and for a region without a
    size, the value is 0. An image index outside the batch is an error at run time.

    This is the layer of MS-CNN and Cascade R-CNN. Other forks have layers of this name that
    also read ``roi_pooling_param``, with a top of (R, C, ``pooled_h``, ``pooled_w``), and compute
    something else: such a net has other weights than fit here. Those that read
    ``roi_align_param`` differ among each other, and are refused.
    """

    type = "ROIAlign"

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        check_regions(self, *bottoms)
        return [(bottoms[1][0], bottoms[0][1], *(count + 1 for count in self.pooled))]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.runtime.roi_grid(*inputs, self.pooled, self.spatial_scale, self.pad_ratio)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        height, width = g.shape(inputs[0])[2:]
        regions = g.op("Reshape", inputs[1], g.const([-1, 5], np.int64))
        regions = pad_regions_onnx(g, regions, self.pad_ratio)
        image, corners = g.op("Split", regions, g.const([1, 4], np.int64), axis=1, outputs=2)
        corners = g.op("Mul", corners, g.const(self.spatial_scale))
        corners = g.op("Sub", corners, g.const(0.5))
        ones = g.const([1, 1, 1, 1], np.int64)
        x1, y1, x2, y2 = g.op("Split", corners, ones, axis=1, outputs=4)
        rows = _edges_onnx(g, y1, y2, self.pooled[0], height, 2)
        columns = _edges_onnx(g, x1, x2, self.pooled[1], width, 1)
        return [between_cells_onnx(g, inputs[0], image, rows, columns)]


def _edges_onnx(
    g: OnnxBuilder, first: str, last: str, count: int, limit: int, axis: int
) -> list[tuple[str, str]]:
    """``grid_edges`` with an axis of 1 inserted at ``axis``: (R, count + 1, 1), or (R, 1, ..)."""
    size = g.op("Sub", last, first)
    place = bin_places_onnx(g, first, size, count, count + 1)
    return cells_beside_onnx(g, place, g.op("Greater", size, g.const(0.0)), limit, axis)
