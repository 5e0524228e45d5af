"""Caffe's pooling of (N, C, H, W) where torch has another last window or divisor."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe2torch.layers._runtime.pool_sizes import (
    pool_divisors,
    pooled_sizes,
    pyramid_window,
)

LOWEST = -3.4028234663852886e38
"""What Caffe's maxima start from."""


def max_pool(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int] = (0, 0),
    ceil: bool = True,
) -> tuple[Tensor, Tensor]:
    """The maxima, and the index ``row * width + column`` of the first of each or -1."""
    margins = pool_margins(x, kernel, stride, pad, ceil)
    padded = F.pad(comparable(x), margins, value=LOWEST)
    y, index = F.max_pool2d(padded, list(kernel), list(stride), return_indices=True)
    row = index // padded.shape[3] - pad[0]
    column = index % padded.shape[3] - pad[1]
    mask = torch.where(y > LOWEST, row * x.shape[3] + column, -1)
    return y, mask.to(x.dtype)


def comparable(x: Tensor) -> Tensor:
    """``x`` with the lowest number for what is not above it: minus infinity and NaN."""
    return x.nan_to_num(LOWEST, math.inf, LOWEST)


def average_pool(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int] = (0, 0),
    ceil: bool = True,
) -> Tensor:
    """Sums of the pixels, divided by the windows' sizes within the padded image."""
    rows, columns = pool_divisors(x.shape[2:], kernel, stride, pad, ceil)
    divisors = x.new_tensor(rows)[:, None] * x.new_tensor(columns)
    return sum_pool(x, kernel, stride, pad, ceil) / divisors


def stochastic_pool(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int] = (0, 0),
    ceil: bool = True,
) -> Tensor:
    """The expectation of a pixel drawn with a probability proportional to its value."""
    total = sum_pool(x, kernel, stride, pad, ceil)
    positive = total > 0
    squares = sum_pool(x * x, kernel, stride, pad, ceil)
    return torch.where(positive, squares / torch.where(positive, total, 1), 0)


def sum_pool(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
    ceil: bool,
) -> Tensor:
    """The sum of the pixels in each window."""
    padded = F.pad(x, pool_margins(x, kernel, stride, pad, ceil))
    return F.avg_pool2d(padded, list(kernel), list(stride), divisor_override=1)


def pool_margins(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
    ceil: bool,
) -> list[int]:
    """Padding with which the windows exactly fit, as ``F.pad`` takes it."""
    sizes = x.shape[2:]
    outputs = pooled_sizes(sizes, kernel, stride, pad, ceil)
    bottom, right = (
        (o - 1) * s + k - n - p
        for o, n, k, s, p in zip(outputs, sizes, kernel, stride, pad, strict=True)
    )
    return [pad[1], right, pad[0], bottom]


def pyramid_pool(x: Tensor, height: int, method: str) -> Tensor:
    """``x`` pooled in 2^l x 2^l bins for each level l, the levels one after another."""
    levels = []
    for level in range(height):
        kernel, pad = pyramid_window(2**level, x.shape[2:])
        if method == "MAX":
            levels.append(max_pool(x, kernel, kernel, pad)[0])
        elif method == "AVE":
            levels.append(average_pool(x, kernel, kernel, pad))
        else:
            levels.append(stochastic_pool(x, kernel, kernel, pad))
    if len(levels) == 1:
        return levels[0]
    return torch.cat([level.flatten(1) for level in levels], 1)
