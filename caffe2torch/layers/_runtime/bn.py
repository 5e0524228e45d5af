"""The BN layers of SegNet's and PSPNet's forks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caffe2torch.layers._runtime.batch_norm import normalize, normalize_by_batch


class BN(nn.Module):
    """BN with running statistics, a weight and a bias (PSPNet).

    ``by_batch`` None takes the statistics of the batch in training.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, channels: int, eps: float, momentum: float, by_batch: bool | None
    ) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.track_running_stats = None if by_batch is None else not by_batch
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``x`` (N, C, ..)."""
        running = self.track_running_stats
        statistics = self.running_mean, self.running_var
        if not self.training if running is None else running:
            return normalize(x, *statistics, self.eps, self.weight, self.bias)
        y, mean, variance = normalize_by_batch(x, self.eps)
        if self.training:
            learn_statistics(statistics, (mean, variance), self.momentum)
        return channel_affine(y, self.weight, self.bias)


def learn_statistics(
    running: tuple[Tensor, Tensor], batch: tuple[Tensor, Tensor], momentum: float
) -> None:
    """Move the running statistics towards those of the batch."""
    for old, new in zip(running, batch, strict=True):
        old.lerp_(new.detach().flatten(), 1 - momentum)


def batch_bn(
    x: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """``x`` as (N, C, H, W) normalised by its own statistics, which follow (SegNet)."""
    x = x.reshape(x.shape + (1,) * (4 - x.ndim))
    y, mean, variance = normalize_by_batch(x, eps)
    return channel_affine(y, weight, bias), mean, variance


def channel_affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """``x * weight + bias`` by channel."""
    shape = (-1, *[1] * (x.ndim - 2))
    return x * weight.reshape(shape) + bias.reshape(shape)
