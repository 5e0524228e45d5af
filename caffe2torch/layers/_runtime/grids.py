"""Resizing as a product with a matrix for the rows and one for the columns."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def resample(x: Tensor, size: Sequence[int], cubic: bool, antialias: bool) -> Tensor:
    """``x`` (N, C, H, W) resized to ``size`` by a triangle or a cubic kernel."""
    steps = [n / out for n, out in zip(x.shape[2:], size, strict=True)]
    wide = antialias and max(steps) > 1
    rows, columns = (
        resample_matrix(n, out, step, other, step if wide else 1.0, cubic)
        for n, out, step, other in zip(
            x.shape[2:], size, steps, steps[::-1], strict=True
        )
    )
    return over_grid(x, rows, columns)


def resample_matrix(
    size: int, out: int, step: float, other: float, width: float, cubic: bool
) -> Tensor:
    """The share of each of ``size`` pixels (columns) in each of ``out`` (rows)."""
    places = resample_places(out, step, other)
    d = (places[:, None] - torch.arange(size)).abs() / width
    if cubic:
        near = d * d * (1.5 * d - 2.5) + 1
        far = d * (d * (2.5 - 0.5 * d) - 4) + 2
        shares = torch.where(d <= 1, near, torch.where(d < 2, far, 0))
    else:
        shares = (1 - d).clamp(min=0)
    total = shares.sum(1, keepdim=True)
    return torch.where(total == 0, 0, shares / torch.where(total == 0, 1, total))


def resample_places(out: int, step: float, other: float) -> Tensor:
    """Where each of ``out`` pixels is read, as FlowNet computes it.

    The shift of one axis comes from the step of the other one, as in its code.
    """
    return torch.arange(out, dtype=torch.float64) * step + other / 2 - 0.5


def resample_nearest(x: Tensor, size: Sequence[int]) -> Tensor:
    """``x`` (N, C, H, W) resized to ``size`` by the nearest pixel."""
    steps = [n / out for n, out in zip(x.shape[2:], size, strict=True)]
    rows, columns = (
        (resample_places(out, step, other) + 0.5).floor().long().to(x.device)
        for out, step, other in zip(size, steps, steps[::-1], strict=True)
    )
    return x[:, :, rows][..., columns]


def downsample(x: Tensor, size: Sequence[int]) -> Tensor:
    """``x`` (N, C, H, W) reduced to ``size``: means of what is not NaN.

    A pixel counts less the farther it is. A mean is NaN where the NaN count more
    than half as much as the others.
    """
    if tuple(x.shape[2:]) == tuple(size):
        return x
    rows, columns = (
        downsample_matrix(n, out) for n, out in zip(x.shape[2:], size, strict=True)
    )
    missing = x.isnan()
    absent = over_grid(missing.to(x.dtype), rows, columns)
    weight = over_grid((~missing).to(x.dtype), rows, columns)
    y = over_grid(torch.where(missing, 0, x), rows, columns) / weight
    return torch.where(absent / weight > 0.5, torch.nan, y)


def downsample_matrix(size: int, out: int) -> Tensor:
    """The weight of each of ``size`` pixels (columns) for each of ``out`` (rows)."""
    step = (size - 1) / (out - 1)
    places = torch.arange(out, dtype=torch.float64)[:, None] * step
    return (1 - (places - torch.arange(size)).abs() / step).clamp(min=0)


def centre_crop(x: Tensor, size: Sequence[int]) -> Tensor:
    """The middle of ``x`` (N, C, H, W), read short of the last pixel's centre."""
    rows, columns = (
        centre_matrix(n, out) for n, out in zip(x.shape[2:], size, strict=True)
    )
    return over_grid(x, rows, columns)


def centre_matrix(size: int, out: int) -> Tensor:
    """The share of each of ``size`` pixels (columns) in each of ``out`` (rows)."""
    places = torch.arange(out, dtype=torch.float64) + (size - out) / 2
    places = places.clamp(0, size - 1.05)[:, None]
    return (1 - (places - torch.arange(size)).abs()).clamp(min=0)


def over_grid(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """``rows @ x @ columns.T`` for the last two axes of ``x``."""
    return rows.to(x) @ x @ columns.to(x).T


class DataMean(nn.Module):
    """``x`` less a mean, with the number of iterations that it was computed in.

    An empty ``shape`` stands for no mean.
    """

    mean: Tensor
    mean_image: Tensor

    def __init__(self, shape: Sequence[int], per_pixel: bool = False) -> None:
        super().__init__()
        self.has_mean, self.per_pixel = len(shape) > 0, per_pixel
        self.register_buffer("iterations", torch.zeros(1, 1, 1, 1))
        if self.has_mean:
            self.register_buffer("mean_image", torch.zeros(1, *shape))
            self.register_buffer("mean", torch.zeros(1, shape[0], 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Subtract the mean of each channel, or of each pixel."""
        if not self.has_mean:
            return x
        return x - (self.mean_image if self.per_pixel else self.mean)
