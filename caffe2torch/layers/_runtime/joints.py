"""Maps of joints (OpenPose) and masks: resized, and the peaks of joints."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from caffe2torch.layers._runtime.cubic_weights import cubic_weights
from caffe2torch.layers._runtime.mask_weights import mask_weights


def cubic_resize(
    x: Tensor, size: Sequence[int] | None, factor: float, start_scale: float
) -> Tensor:
    """The maps (1, C, H, W) resized to ``size``, or by ``factor``."""
    for dim in (2, 3):
        n = x.shape[dim]
        new = scaled_by(n, factor) if size is None else size[dim - 2]
        margin = math.floor(n // 2 * (1 - start_scale))
        x = weighted(x, dim, cubic_weights(n, new, margin))
    return x


def resize_masks(x: Tensor, size: Sequence[int], factors: Sequence[float]) -> Tensor:
    """The maps (N, C, H, W) resized to ``size``, or by factors that are positive."""
    for dim, fixed, factor in ((2, size[0], factors[0]), (3, size[1], factors[1])):
        n = x.shape[dim]
        new = scaled_by(n, factor) if factor > 0 else fixed
        x = weighted(x, dim, mask_weights(n, new))
    return x


def scaled_by(size: int, factor: float) -> int:
    """The whole part of ``size * factor`` in float32."""
    return int(torch.tensor(float(size)) * factor)


def weighted(x: Tensor, dim: int, weights: list[list[float]]) -> Tensor:
    """``x`` (N, C, H, W) with sums of its pixels along ``dim``, one a row."""
    return (x.transpose(dim, 3) @ x.new_tensor(weights).T).transpose(dim, 3)


def peaks_of(x: Tensor, parts: int, most: int, threshold: float) -> Tensor:
    """The peaks of ``parts`` first maps of (1, C, H, W), as (1, parts, most + 1, 3).

    Row 0 has their number, the others column, row and value; rows without one are 0.
    """
    height, width = x.shape[2:]
    maps, flat = x[0, :parts].detach(), x.detach().flatten()
    inner = maps[:, 1:-1, 1:-1]
    found = inner > threshold
    for i in range(3):
        for k in range(3):
            if (i, k) != (1, 1):
                beside = maps[:, i : i + height - 2, k : k + width - 2]
                found = found & (inner > beside)
    rank = found.flatten(1).cumsum(1).view_as(found)
    part, row, column = (found & (rank <= most)).nonzero().T
    rank = rank[part, row, column]
    y = x.new_zeros(parts, most + 1, 3)
    y[:, 0, 0] = found.flatten(1).sum(1).to(x.dtype)
    steps = torch.arange(-3, 4, device=x.device)
    rows = (row + 1)[:, None, None] + steps[:, None]
    columns = (column + 1)[:, None, None] + steps
    # The width bounds the rows, too: they may run on into the next map.
    within = (rows > 0) & (rows < width) & (columns > 0) & (columns < width)
    at = (part * height * width)[:, None, None] + rows * width + columns
    score = flat[at.clamp(0, len(flat) - 1)]
    score = torch.where(within & (score > 0), score, 0)
    total = score.sum((1, 2))
    y[part, rank, 0] = (score * columns).sum((1, 2)) / total
    y[part, rank, 1] = (score * rows).sum((1, 2)) / total
    y[part, rank, 2] = maps[part, row + 1, column + 1]
    return y[None]
