"""ROIPooling: the maxima of regions of a map, on a grid of fixed size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.layers import OnnxBuilder, Reads, TorchBuilder, register_layer
from caffe2torch.layers._pooling import comparable_onnx
from caffe2torch.layers._regions import PooledRegions, check_regions, pad_regions_onnx


@register_layer()
class ROIPooling(PooledRegions):
    """Max pooling of regions (Fast R-CNN's Caffe: roi_pooling_layer.cpp).

    Bottoms: a map (N, C, H, W); regions (R, 5), rows (image, x1, y1, x2, y2) in the pixels
    of the image. The top is (R, C, ``pooled_h``, ``pooled_w``). MS-CNN's ``pad_ratio`` (default
    0) first makes each region longer at both ends by this part of its length x2 - x1 + 1. Corners
    are multiplied by ``spatial_scale`` (default 1) and rounded, halves away from zero; both
    belong to the region, which is at least one cell high and wide. Bin i of n reaches from
    floor(i size / n) to ceil((i + 1) size / n), and is cut off at the border of the map. A
    bin without a cell gives 0. An image index outside the batch is an error at run time.
    """

    type = "ROIPooling"
    reads = Reads(slice(1, None))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        check_regions(self, *bottoms)
        return [(bottoms[1][0], bottoms[0][1], *self.pooled)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        x, regions = inputs
        x = t.runtime.comparable(x) if self.non_finite else x
        return t.runtime.roi_pool(x, regions, self.pooled, self.spatial_scale, self.pad_ratio)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        x = comparable_onnx(g, inputs[0]) if self.non_finite else inputs[0]
        regions = g.op("Reshape", inputs[1], g.const([-1, 5], np.int64))
        return [
            g.op(
                "MaxRoiPool",
                x,
                pad_regions_onnx(g, regions, self.pad_ratio),
                pooled_shape=list(self.pooled),
                spatial_scale=self.spatial_scale,
            )
        ]
