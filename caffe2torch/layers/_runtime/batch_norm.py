"""Caffe's BatchNorm, Scale and Bias as modules."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.Module):
    """Caffe's BatchNorm over axis 1: no weight, no bias, and its own running average.

    ``use_global_stats`` None takes the statistics of the batch in training.
    """

    running_mean: Tensor
    running_var: Tensor
    scale_factor: Tensor

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        momentum: float = 0.999,
        use_global_stats: bool | None = None,
    ) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.track_running_stats = use_global_stats
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.zeros(channels))
        self.register_buffer("scale_factor", torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` (N, C, ..)."""
        running = self.track_running_stats
        if not self.training if running is None else running:
            return normalize(x, self.running_mean, self.running_var, self.eps)
        y, mean, variance = normalize_by_batch(x, self.eps)
        if self.training:
            statistics = self.running_mean, self.running_var, self.scale_factor
            update_running(x, mean, variance, *statistics, self.momentum)
        return y


def normalize(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
) -> Tensor:
    """Normalise the channels of ``x`` by given statistics."""
    if eps < 0:  # torch refuses it.
        variance, eps = variance + eps, 0.0
    return F.batch_norm(x, mean, variance, weight, bias, eps=eps)


def normalize_by_batch(x: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise the channels of ``x`` by their mean and biased variance in the batch.

    Also returns the statistics, as (1, C, 1, ..). The mean is subtracted before the
    division, not after it as torch does: with a variance near 0 the order matters.
    """
    axes = [axis for axis in range(x.ndim) if axis != 1]
    variance, mean = torch.var_mean(x, axes, correction=0, keepdim=True)
    return (x - mean) * (variance + eps).rsqrt(), mean, variance


def update_running(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    scale_factor: Tensor,
    momentum: float,
) -> None:
    """Take the statistics of the batch ``x`` into the running ones, as Caffe does."""
    with torch.no_grad():
        count = x.numel() // x.shape[1]
        variance = variance * (count / max(count - 1, 1))
        old = momentum * scale_factor
        scale_factor.copy_(old + 1)
        for running, batch in ((running_mean, mean), (running_var, variance)):
            running.copy_((old * running + batch.flatten()) / scale_factor)


class Scale(nn.Module):
    """``x * weight + bias``, both over the axes of ``x`` from ``dim`` on."""

    bias: Tensor | None

    def __init__(
        self, shape: tuple[int, ...], dim: int = 1, bias: bool = False
    ) -> None:
        super().__init__()
        self.dim = dim
        self.weight = nn.Parameter(torch.ones(shape))
        self.register_parameter(
            "bias", nn.Parameter(torch.zeros(shape)) if bias else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Scale ``x``."""
        y = x * over_axes(self.weight, x, self.dim)
        return y if self.bias is None else y + over_axes(self.bias, x, self.dim)


class Bias(nn.Module):
    """``x + bias`` over the axes of ``x`` from ``dim`` on."""

    def __init__(self, shape: tuple[int, ...], dim: int = 1) -> None:
        super().__init__()
        self.dim = dim
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Shift ``x``."""
        return x + over_axes(self.bias, x, self.dim)


def over_axes(operand: Tensor, x: Tensor, dim: int) -> Tensor:
    """``operand`` with axes of size 1 appended, to start at axis ``dim`` of ``x``."""
    return operand.reshape(operand.shape + (1,) * (x.ndim - dim - operand.ndim))
