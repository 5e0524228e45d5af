"""Layers that draw at random while they train, and are the identity otherwise."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ChannelDropout(nn.Module):
    """Zeroes whole channels at random in training and scales the others up."""

    def __init__(self, ratio: float) -> None:
        super().__init__()
        self.ratio = ratio

    def forward(self, x: Tensor) -> Tensor:
        """Drop channels of ``x`` (N, C, ..)."""
        mask = x.new_ones(x.shape[:2] + (1,) * (x.ndim - 2))
        return x * F.dropout(mask, self.ratio, self.training)


class Noise(nn.Module):
    """Adds normal noise (``deviation`` not None) or uniform noise in training."""

    def __init__(
        self, deviation: float | None, extent: float = 0, bias: float = 0
    ) -> None:
        super().__init__()
        self.deviation, self.extent, self.bias = deviation, extent, bias

    def forward(self, x: Tensor) -> Tensor:
        """Add noise to ``x``."""
        if not self.training:
            return x.clone()
        if self.deviation is None:
            return x + self.bias + self.extent * (2 * torch.rand_like(x) - 1)
        size = x.detach().square().mean().sqrt()
        return x + self.bias + self.deviation * size * torch.randn_like(x)
