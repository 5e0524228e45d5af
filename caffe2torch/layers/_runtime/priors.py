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
    offset: float = 0.5,
    clip: bool = False,
) -> Tensor:
    """Boxes around the centres of the cells of ``x``, and variances: (1, 2, 4HWP).

    ``image`` is the image's height and width, ``boxes`` the heights and widths of the
    boxes of a cell in pixels, ``step`` the distance of cells (default: image over map).
    """
    like: dict[str, Any] = {"dtype": torch.float64, "device": x.device}
    height, width = (*x.shape, 1, 1, 1, 1)[2:4]
    extents = torch.tensor(boxes, **like)
    cells = torch.arange(height, **like)[:, None], torch.arange(width, **like)[:, None]
    sizes = extents[:, 0], extents[:, 1]
    ys, xs = box_edges((height, width), image, step, offset, cells, sizes)
    shape = (height, width, len(boxes))
    corners = [
        corner.expand(shape)
        for pair in zip(xs, ys, strict=True)
        for corner in (pair[0][None], pair[1][:, None])
    ]
    edges = torch.stack(corners, -1)
    if clip:
        edges = edges.clamp(0, 1)
    variances = torch.tensor(variance, **like).expand_as(edges)
    return torch.stack([edges, variances]).reshape(1, 2, -1).to(x.dtype)
