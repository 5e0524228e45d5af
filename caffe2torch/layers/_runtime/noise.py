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


class SelfNormalDropout(nn.Module):
    """Puts ``alpha`` in place of values at random in training.

    Values of mean 0 and deviation 1 keep both.
    """

    def __init__(self, ratio: float, alpha: float) -> None:
        super().__init__()
        self.ratio, self.alpha = ratio, alpha
        keep = 1 - ratio
        self.scale: float = (keep * (1 + alpha**2 * ratio)) ** -0.5
        self.shift = -self.scale * ratio * alpha

    def forward(self, x: Tensor) -> Tensor:
        """Drop values of ``x``."""
        if not self.training:
            return x.clone()
        dropped = torch.rand_like(x) < self.ratio
        y: Tensor = self.scale * x.masked_fill(dropped, self.alpha) + self.shift
        return y


class ChannelScaling(nn.Module):
    """Multiplies each channel in training by a number between ``low`` and ``high``."""

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, x: Tensor) -> Tensor:
        """Scale the channels of ``x`` (N, C, H, W)."""
        if not self.training:
            return x.clone()
        return x * x.new_empty((*x.shape[:2], 1, 1)).uniform_(self.low, self.high)


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
