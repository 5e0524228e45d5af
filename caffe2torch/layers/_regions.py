"""Regions of a map, on a grid of fixed size: what the layers that pool them share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.parameters import Parameters
from caffe2torch.io.schema import Message
from caffe2torch.layers._base import Layer, OnnxBuilder, net_error


@dataclass(frozen=True)
class PooledRegions(Layer):
    """Base of ROIPooling and ROIAlign, which read ``roi_pooling_param``.

    Bottoms: a map (N, C, H, W); regions (R, 5), rows (image, x1, y1, x2, y2).
    """

    parameters = Parameters(
        "roi_pooling_param",
        """
        optional uint32 pooled_h = 1 [default = 0];
        optional uint32 pooled_w = 2 [default = 0];
        optional float spatial_scale = 3 [default = 1];
        optional float pad_ratio = 4 [default = 0];
        """,
    )
    bottoms = (2, 2)

    pooled: tuple[int, int]
    spatial_scale: float
    pad_ratio: float = 0

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = cls.parameters.of(proto)
        for field in ("pooled_h", "pooled_w"):
            if not getattr(p, field):
                raise net_error(proto, "must be greater than 0", f"roi_pooling_param.{field}")
        return cls(proto.name, (p.pooled_h, p.pooled_w), p.spatial_scale, p.pad_ratio)


def check_regions(layer: Layer, data: Shape, regions: Shape) -> None:
    """Raise NetError unless the bottoms can be a map and rows (image, x1, y1, x2, y2)."""
    if len(data) != 4:
        raise layer.net_error(f"the map's shape {data} is not (N, C, H, W)")
    size = 1
    for axis in regions[1:]:
        size *= axis
    if not regions or size != 5:
        raise layer.net_error(f"the regions' shape {regions} is not (R, 5)")


def pad_regions_onnx(g: OnnxBuilder, regions: str, ratio: float) -> str:
    """Rows (image, x1, y1, x2, y2), longer at both ends by ``ratio`` times their length."""
    if not ratio:
        return regions
    image, low, high = g.op("Split", regions, g.const([1, 2, 2], np.int64), axis=1, outputs=3)
    length = g.op("Add", g.op("Sub", high, low), g.const(1.0))
    pad = g.op("Mul", length, g.const(ratio))
    return str(g.op("Concat", image, g.op("Sub", low, pad), g.op("Add", high, pad), axis=1))
