"""Functions that make few values of numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def sign_code(x: Tensor) -> Tensor:
    """1, of negative numbers -1."""
    return torch.where(x >= 0, torch.ones_like(x), -torch.ones_like(x))


def binary_weight(weight: Tensor, use_alpha: bool) -> Tensor:
    """The signs of ``weight``, times the mean of |weight| of each output if asked.

    Its gradient is that of ``weight``.
    """
    binary = sign_code(weight.detach())
    if use_alpha:
        axes = list(range(1, weight.ndim))
        binary = binary * weight.detach().abs().mean(axes, keepdim=True)
    return binary + (weight - weight.detach())


def nearest_center(
    x: Tensor, largest: Sequence[float], centers: Sequence[float], below: float
) -> Tensor:
    """The first center with x up to its ``largest``; ``below`` for x <= 0."""
    y = torch.zeros_like(x)
    for most, center in zip(reversed(largest), reversed(centers), strict=True):
        y = torch.where(x <= most, center, y)
    return torch.where(x <= 0, below, y)
