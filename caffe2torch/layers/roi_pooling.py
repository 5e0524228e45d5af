"""ROIPooling: the maxima of regions of a map, on a grid of fixed size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import register_layer
from caffe2torch.layers._base import Layer, OnnxBuilder, net_error
from caffe2torch.layers._regions import check_regions, round_half_away, split_regions

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self


@register_layer()
@dataclass(frozen=True)
class ROIPooling(Layer):
    """Max pooling of regions (Fast R-CNN's Caffe: roi_pooling_layer.cpp).

    Bottoms: a map (N, C, H, W); regions (R, 5), rows (image, x1, y1, x2, y2) in the pixels
    of the image. The top is (R, C, ``pooled_h``, ``pooled_w``). Corners are multiplied by
    ``spatial_scale`` (default 1) and rounded, halves away from zero; both belong to the
    region, which is at least one cell high and wide. Bin i of n reaches from
    floor(i size / n) to ceil((i + 1) size / n), and is cut off at the border of the map. A
    bin without a cell gives 0. An image index outside the batch is an error at run time.
    """

    type = "ROIPooling"
    bottoms = (2, 2)

    pooled: tuple[int, int]
    spatial_scale: float

    @classmethod
    def from_proto(cls, proto: Message) -> Self:
        p = proto.roi_pooling_param
        for field in ("pooled_h", "pooled_w"):
            if not getattr(p, field):
                raise net_error(proto, "must be greater than 0", f"roi_pooling_param.{field}")
        return cls(proto.name, (p.pooled_h, p.pooled_w), p.spatial_scale)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        check_regions(self, *bottoms)
        return [(bottoms[1][0], bottoms[0][1], *self.pooled)]

    def forward(
        self, inputs: Sequence[Tensor], params: Mapping[str, Tensor], training: bool
    ) -> Tensor:
        import torch

        data, regions = inputs
        image, corners = split_regions(regions, len(data))
        corners = round_half_away(corners * self.spatial_scale)
        x1, y1, x2, y2 = corners.unbind(1)
        y_start, y_end = (y[:, :, None] for y in _bins(y1, y2, self.pooled[0], data.shape[2]))
        x_start, x_end = (x[:, None, :] for x in _bins(x1, x2, self.pooled[1], data.shape[3]))
        top, bottom, row_level = _windows(y_start, y_end, data.shape[2])
        left, right, column_level = _windows(x_start, x_end, data.shape[3])
        maxima = _running_maxima(_running_maxima(data.permute(0, 2, 3, 1), 1), 3)
        image = image[:, None, None]
        pooled = torch.stack(
            [
                maxima[column_level, row_level, image, y, x]
                for y in (top, bottom)
                for x in (left, right)
            ]
        ).amax(0)
        filled = (y_start < y_end) & (x_start < x_end)
        return torch.where(filled[..., None], pooled, 0.0).permute(0, 3, 1, 2)

    def to_onnx(
        self, g: OnnxBuilder, inputs: Sequence[str], params: Mapping[str, str]
    ) -> Sequence[str]:
        regions = g.op("Reshape", inputs[1], g.const([-1, 5], np.int64))
        return [
            g.op(
                "MaxRoiPool",
                inputs[0],
                regions,
                pooled_shape=list(self.pooled),
                spatial_scale=self.spatial_scale,
            )
        ]


def _bins(first: Tensor, last: Tensor, count: int, limit: int) -> tuple[Tensor, Tensor]:
    """Start and end (R, count) of each region's bins, inside [0, limit]."""
    import torch

    # float32 as in Caffe: where size / count is rounded up, a bin can be one cell longer.
    size = ((last - first + 1).clamp(min=1) / count)[:, None]
    index = torch.arange(count, device=first.device, dtype=first.dtype)
    start = (index * size).floor() + first[:, None]
    end = ((index + 1) * size).ceil() + first[:, None]
    return start.long().clamp(0, limit), end.long().clamp(0, limit)


def _windows(start: Tensor, end: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two windows of length 2 ** level that together cover [start, end): starts and level.

    Of an empty bin only the indices' being valid matters.
    """
    import torch

    level = torch.zeros_like(start)
    for power in range(1, limit.bit_length()):
        level += end - start >= 2**power
    return start.clamp(max=limit - 1), (end - (1 << level)).clamp(min=0), level


def _running_maxima(data: Tensor, axis: int) -> Tensor:
    """Maxima over 1, 2, 4, ... cells from each cell on along ``axis``, stacked in front.

    Windows that reach over the border hold no meaningful value.
    """
    import torch

    levels, span = [data], 1
    while 2 * span <= data.shape[axis]:
        levels.append(torch.maximum(levels[-1], levels[-1].roll(-span, axis)))
        span *= 2
    return torch.stack(levels)
