"""A block of DenseNet."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def dense_block(x: Tensor, arrays: Any, transitions: int, bottleneck: bool) -> Tensor:
    """``x`` (N, C, H, W) and, after it, the channels that each transition adds."""
    for i in range(transitions):
        y = normalized_relu(x, arrays, str(i))
        if bottleneck:
            y = F.conv2d(y, getattr(arrays, f"filter_1x1_{i}"))
            y = normalized_relu(y, arrays, f"_1x1_{i}")
        # The fork convolves, torch correlates.
        turned = getattr(arrays, f"filter{i}").flip(2, 3)
        x = torch.cat((x, F.conv2d(y, turned, padding=1)), 1)
    return x


def normalized_relu(x: Tensor, arrays: Any, suffix: str) -> Tensor:
    """relu(scale (x - mean) / sqrt(variance + eps) + shift).

    The statistics are divided by the factor, unless that is 0.
    """
    factor = torch.where(arrays.scale_factor == 0, 1, arrays.scale_factor)
    scale, shift, mean, variance = (
        getattr(arrays, f"{name}{suffix}")
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    return F.relu(F.batch_norm(x, mean / factor, variance / factor, scale, shift))
