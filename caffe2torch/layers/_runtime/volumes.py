"""Pooling over one to three axes, without a mask."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from caffe2torch.layers._runtime.pool_sizes import pool_divisors, pooled_sizes


def max_pool_volume(
    x: Tensor,
    kernel: Sequence[int] = (),
    stride: Sequence[int] = (),
    pad: Sequence[int] = (),
    drops: bool = True,
    dilation: Sequence[int] = (),
) -> Tensor:
    """The maxima of ``x`` (N, C, *spatial), NaN left out; without a kernel, of all.

    ``drops`` says that a last window beyond the padded image is left out.
    """
    lowest = torch.finfo(x.dtype).min
    x = torch.where(x.isnan(), lowest, x).clamp(min=lowest)
    if not kernel:
        return x.amax(tuple(range(2, x.ndim)), keepdim=True)
    steps = list(dilation or [1] * len(kernel))
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, steps, strict=True)]
    padded = fit_volume(x, extent, stride, pad, drops, lowest)
    pool = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    return pool(padded, list(kernel), list(stride), dilation=steps)


def mean_pool_volume(
    x: Tensor,
    kernel: Sequence[int] = (),
    stride: Sequence[int] = (),
    pad: Sequence[int] = (),
    drops: bool = True,
) -> Tensor:
    """Means of windows of ``x`` (N, C, *spatial), its padding counted as zeros.

    A window counts as far as it is in the padded ``x``. Without a kernel, the mean of
    all; ``drops`` is that of ``max_pool_volume``.
    """
    if not kernel:
        return x.mean(tuple(range(2, x.ndim)), keepdim=True)
    padded = fit_volume(x, kernel, stride, pad, drops, 0.0)
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    y = pool(padded, list(kernel), list(stride))
    sizes = pool_divisors(x.shape[2:], kernel, stride, pad, True, drops)
    share = y.new_tensor(float(math.prod(kernel)))
    for size in sizes:
        share = share[..., None] / y.new_tensor(size)
    return y * share


def fit_volume(
    x: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
    drops: bool,
    fill: float,
) -> Tensor:
    """``x`` padded by ``fill``, or cut at the end, so that the windows exactly fit."""
    outputs = pooled_sizes(x.shape[2:], kernel, stride, pad, True, drops)
    margins = []
    axes = zip(outputs, x.shape[2:], kernel, stride, pad, strict=True)
    for o, n, k, s, p in reversed(list(axes)):
        margins += [p, (o - 1) * s + k - n - p]
    return F.pad(x, margins, value=fill)
