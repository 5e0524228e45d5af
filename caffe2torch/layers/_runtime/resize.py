"""Maps of other sizes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe2torch.layers._runtime.resize_places import (
    corner_places,
    extrapolating_places,
    nearest_places,
)


def scaled_size(x: Tensor, scale: Sequence[float]) -> list[int]:
    """Height and width of ``x`` times ``scale`` in float32, cut to whole numbers."""
    sizes = torch.tensor(x.shape[2:], dtype=torch.float32)
    return [int(n) for n in sizes * torch.tensor(scale)]


def resize_nearest(x: Tensor, size: Sequence[int]) -> Tensor:
    """``x`` (N, C, H, W) at the pixels of ``nearest_places``."""
    rows, columns = (
        nearest_places(n, new) for n, new in zip(x.shape[2:], size, strict=True)
    )
    return x[:, :, rows][:, :, :, columns]


def resize_by_corners(x: Tensor, size: Sequence[int]) -> Tensor:
    """``x`` (N, C, H, W), bilinear between ``corner_places``, 0 after it."""
    sizes = x.shape[2:]
    x = F.pad(x, (0, 1, 0, 1))
    for dim, (n, new) in enumerate(zip(sizes, size, strict=True), 2):
        places, weights = corner_places(n, new)
        index = torch.tensor(places, device=x.device)
        weight = torch.tensor(weights, dtype=x.dtype, device=x.device)
        weight = weight[:, None] if dim == 2 else weight
        above = x.index_select(dim, index + 1)
        x = x.index_select(dim, index) * (1 - weight) + above * weight
    return x


def resize_extrapolating(x: Tensor, size: Sequence[int]) -> Tensor:
    """``x`` (N, C, H, W), bilinear between the pixels of ``extrapolating_places``."""
    for dim, (n, new) in enumerate(zip(x.shape[2:], size, strict=True), 2):
        places, weights = extrapolating_places(n, new)
        before = torch.tensor(places, device=x.device)
        weight = torch.tensor(weights, dtype=x.dtype, device=x.device)
        weight = weight[:, None] if dim == 2 else weight
        after = x.index_select(dim, (before + 1).clamp(max=n - 1))
        x = x.index_select(dim, before) * (1 - weight) + after * weight
    return x
