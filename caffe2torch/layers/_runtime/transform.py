"""Images under maps of their coordinates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def transform_affine(
    x: Tensor, theta: Tensor, fixed: Sequence[float | None], size: Sequence[int]
) -> Tensor:
    """``x`` (N, C, H, W) at the places that 2 x 3 matrices make of those of a grid.

    ``theta`` has the numbers of each image's matrix that ``fixed``, row by row, lacks.
    Places are (row, column), the i-th of n at 2 i / n - 1.
    """
    learned = iter(theta.flatten(1).unbind(1))
    columns = [
        next(learned) if value is None else theta.new_full((len(x),), value)
        for value in fixed
    ]
    matrix = torch.stack(columns, 1).reshape(-1, 2, 3)
    ys, xs = (torch.arange(n, device=x.device, dtype=x.dtype) / n * 2 - 1 for n in size)
    height, width = size
    rows, across = ys[:, None].expand(height, width), xs.expand(height, width)
    places = torch.stack([rows, across, torch.ones_like(rows)]).flatten(1)
    moved = (matrix @ places).reshape(-1, 2, height, width)
    grid = torch.stack([moved[:, 1] + 1 / x.shape[3], moved[:, 0] + 1 / x.shape[2]], -1)
    return F.grid_sample(x, grid, align_corners=False)
