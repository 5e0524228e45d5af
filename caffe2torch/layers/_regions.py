"""Regions of interest on torch tensors, as Fast R-CNN and R-FCN give them to pooling layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from caffe2torch.graph import Shape
from caffe2torch.layers._base import Layer

if TYPE_CHECKING:
    from torch import Tensor


def check_regions(layer: Layer, data: Shape, regions: Shape) -> None:
    """Raise NetError unless the bottoms can be a map and rows (image, x1, y1, x2, y2)."""
    if len(data) != 4:
        raise layer.net_error(f"the map's shape {data} is not (N, C, H, W)")
    size = 1
    for axis in regions[1:]:
        size *= axis
    if not regions or size != 5:
        raise layer.net_error(f"the regions' shape {regions} is not (R, 5)")


def split_regions(regions: Tensor, images: int) -> tuple[Tensor, Tensor]:
    """The image index of each region (R), and x1, y1, x2, y2 (R, 4).

    Caffe stops at an index below 0; here it becomes ``images``, one that torch refuses too
    instead of counting from the end.
    """
    regions = regions.detach().float().reshape(len(regions), 5)
    image = regions[:, 0].long()
    return image.where(image >= 0, images), regions[:, 1:]


def round_half_away(values: Tensor) -> Tensor:
    """C's round: halves go away from zero, where torch's go to the even neighbour."""
    whole = values.trunc()
    return whole + (2 * (values - whole)).trunc()
