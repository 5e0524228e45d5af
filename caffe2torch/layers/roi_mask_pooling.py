"""ROIMaskPooling: the maxima of scaled regions of a map."""

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
    Reads,
    TorchBuilder,
    register_layer,
    unsupported,
)
from caffe2torch.layers._pooling import comparable_onnx
from caffe2torch.layers._regions import check_regions, pooled_size

_HALVES = {1: (1, 0), 2: (0, 0), 3: (1, 1), 4: (0, 1)}
"""Of each ``half_part`` the corner that goes to the centre, and its axis: x or y."""


@register_layer()
class ROIMaskPooling(Layer):
    """ROIPooling of regions that are first made ``roi_scale`` times as large around their centres.

    Fork: craftGBD/caffe-GBD, roi_mask_pooling_layer.cu. Rows of regions are (image, x1, y1, x2,
    y2); its code for a CPU takes the second number for x2. ``half_part`` 1 to 4 keeps the left,
    right, upper or lower half, which ends at the centre. Corners are multiplied by
    ``spatial_scale``, ``spatial_shift`` is added, and both rounded. Defaults: roi_scale 1,
    half_part 0 (all), spatial_scale 1, spatial_shift 0. Bottoms, bins and errors are
    ROIPooling's. Refused: a ``mask_scale`` above 0, with which the code returns numbers of the
    part that it masks.
    """

    type = "ROIMaskPooling"
    bottoms = (2, 2)
    reads = Reads(slice(1, None))
    parameters = Parameters(
        "roi_mask_pooling_param",
        """
        optional uint32 pooled_h = 1 [default = 0];
        optional uint32 pooled_w = 2 [default = 0];
        optional float spatial_scale = 3 [default = 1];
        optional int32 half_part = 4 [default = 0];
        optional float roi_scale = 5 [default = 1];
        optional float mask_scale = 6 [default = 0];
        optional float spatial_shift = 7 [default = 0];
        """,
    )

    pooled: tuple[int, int]
    spatial_scale: float
    roi_scale: float
    half_part: int
    shift: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        if param.mask_scale > 0:
            raise unsupported(
                proto,
                f"{param.mask_scale:g} has no conversion: the code compares 0 in place of the "
                "numbers within the mask, but returns them; leave it out to pool without a mask",
                "roi_mask_pooling_param.mask_scale",
            )
        return cls(
            name=proto.name,
            pooled=pooled_size(proto, cls.parameters),
            spatial_scale=param.spatial_scale,
            roi_scale=param.roi_scale,
            half_part=param.half_part,
            shift=param.spatial_shift,
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        check_regions(self, *bottoms)
        return [(bottoms[1][0], bottoms[0][1], *self.pooled)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        x, regions = inputs
        x = t.runtime.comparable(x) if self.non_finite else x
        regions = t.runtime.scaled_regions(
            regions, self.roi_scale, self.half_part, self.spatial_scale, self.shift
        )
        return t.runtime.roi_pool(x, regions, self.pooled, 1.0)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        x = comparable_onnx(g, inputs[0]) if self.non_finite else inputs[0]
        rows = g.op("Reshape", inputs[1], g.const([-1, 5], np.int64))
        image, low, high = g.op("Split", rows, g.const([1, 2, 2], np.int64), axis=1, outputs=3)
        centre = g.op("Mul", g.op("Add", low, high), g.const(0.5))
        size = g.op("Mul", g.op("Sub", high, low), g.const(self.roi_scale))
        half = g.op("Mul", size, g.const(0.5))
        ends = [g.op(sign, centre, half) for sign in ("Sub", "Add")]
        if self.half_part in _HALVES:
            end, axis = _HALVES[self.half_part]
            keep = g.const(np.arange(2)[None] == axis, np.bool_)
            ends[end] = g.op("Where", keep, centre, ends[end])
        corners = g.op("Mul", g.op("Concat", *ends, axis=1), g.const(self.spatial_scale))
        corners = g.op("Add", corners, g.const(self.shift))
        regions = g.op("Concat", image, corners, axis=1)
        return [g.op("MaxRoiPool", x, regions, pooled_shape=list(self.pooled), spatial_scale=1.0)]
