"""Spatial pyramid pooling."""

from __future__ import annotations

import torch
from torch import Tensor

from caffe2torch.layers._runtime.pool import average_pool, max_pool, stochastic_pool
from caffe2torch.layers._runtime.pool_sizes import pyramid_window


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
