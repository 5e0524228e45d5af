"""The default boxes of an SSD head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from caffe2torch.layers._runtime.box_edges import box_edges


def prior_boxes(
    x: Tensor,
    image: Sequence[float],
    boxes: Sequence[Sequence[float]],
    variance: Sequence[float],
    step: Sequence[float] | None = None,
    offset: Sequence[Sequence[float]] = ((0.5, 0.5),),
    shift: Sequence[Sequence[float]] = ((0, 0),),
    bounded: bool = False,
    clip: bool = False,
) -> Tensor:
    """Boxes around the centres of the cells of ``x``, and variances: (1, 2, 4HWP).

    ``image`` is the image's height and width, ``boxes`` the heights and widths of the
    boxes of a cell in pixels, ``step`` the distance of cells (default: image over map).
    The centre of a box is at ``offset``, in cells, plus ``shift``, in pixels, from the
    corner of its cell: one of either for all boxes, or one a box. ``bounded`` keeps low
    edges from falling below 0 and high ones from exceeding 1, ``clip`` limits both.
    """
    like: dict[str, Any] = {"dtype": torch.float64, "device": x.device}
    height, width = (*x.shape, 1, 1, 1, 1)[2:4]
    extents, places, shifts = (
        torch.tensor(pairs, **like).unbind(1) for pairs in (boxes, offset, shift)
    )
    cells = torch.arange(height, **like)[:, None], torch.arange(width, **like)[:, None]
    ys, xs = box_edges((height, width), image, step, places, shifts, cells, extents)
    shape = (height, width, len(boxes))
    corners = [
        corner.expand(shape)
        for pair in zip(xs, ys, strict=True)
        for corner in (pair[0][None], pair[1][:, None])
    ]
    edges = torch.stack(corners, -1)
    if bounded:
        low, high = edges.chunk(2, -1)
        edges = torch.cat([low.clamp(min=0), high.clamp(max=1)], -1)
    if clip:
        edges = edges.clamp(0, 1)
    variances = torch.tensor(variance, **like).expand_as(edges)
    return torch.stack([edges, variances]).reshape(1, 2, -1).to(x.dtype)
