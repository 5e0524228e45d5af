"""Functions of elements and channels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def constant(x: Tensor, value: float | Tensor) -> Tensor:
    """``value`` in the shape of ``x``, of which it has a gradient of 0."""
    return torch.where(torch.zeros_like(x, dtype=torch.bool), x, value)


def eltwise_max(first: Tensor, second: Tensor, *others: Tensor) -> Tensor:
    """The largest of each element; the gradient of equal ones goes to one alone."""
    largest = torch.where(first > second, first, second)
    for x in others:
        largest = torch.where(x > largest, x, largest)
    return largest


def shuffle_channels(x: Tensor, groups: int) -> Tensor:
    """Channel j of each of the ``groups`` in turn."""
    n, channels, *rest = x.shape
    grouped = x.reshape(n, groups, channels // groups, *rest)
    return grouped.transpose(1, 2).reshape(x.shape)


def left_behind(y: Tensor, x: Tensor, size: int) -> Tensor:
    """``y``, NaN where a sum sliding over ``size`` channels has met NaN or infinity."""
    entered = (~x.square().isfinite()).cumsum(1)
    left = F.pad(entered, [0, 0, 0, 0, size // 2 + 1, 0])[:, : x.shape[1]]
    return torch.where(left > 0, math.nan, y)


def lrn_within_channel(x: Tensor, size: int, alpha: float, beta: float) -> Tensor:
    """Response normalisation over a ``size`` x ``size`` window, zeros outside."""
    # Wider than torch lets a pooling window be padded, so x is padded first.
    squares = F.pad(x * x, [size // 2] * 4)
    return x * (1 + alpha * F.avg_pool2d(squares, size, 1)) ** -beta


def l2_normalize(x: Tensor, scale: Tensor, dims: list[int], eps: float) -> Tensor:
    """``x`` over its L2 norm along ``dims``, times ``scale``."""
    return scale * (x / (x.square().sum(dims, keepdim=True) + eps).sqrt())


def norm_of_channels(x: Tensor, squared: bool) -> tuple[Tensor, Tensor]:
    """``x`` as (N, C, H, W) over its L2 or L1 norm along C, and that norm."""
    x = x.reshape(x.shape + (1,) * (4 - x.ndim))
    total = (x.square() if squared else x.abs()).sum(1, keepdim=True) + 1e-6
    norm = total.sqrt() if squared else total
    return x / norm, norm


def mvn(x: Tensor, dims: list[int], eps: float | None) -> Tensor:
    """``x`` as (N, C, H, W) less its mean; over its deviation if ``eps`` is given.

    Caffe's gradient takes the deviation that was divided by, ``eps`` included.
    """
    x = x.reshape(x.shape + (1,) * (4 - x.ndim))
    x = x - x.mean(dims, keepdim=True)
    if eps is None:
        return x
    return x / (root(x.square().mean(dims, keepdim=True), eps) + eps)


def root(squares: Tensor, eps: float) -> Tensor:
    """The root, with the gradient 1 / (2 (root + eps)): finite at 0."""
    value = squares.detach().sqrt()
    slope = squares / (2 * (value + eps))
    return value + (slope - slope.detach())


def below_largest_channel(x: Tensor) -> Tensor:
    """``x`` less, in the first item, the largest channel of each pixel."""
    return torch.cat((x[:1] - x[:1].amax(1, keepdim=True).detach(), x[1:]))


def largest_of_each(x: Tensor, count: int, least: float) -> Tensor:
    """The largest of ``count`` channels side by side, ``least`` if none is above it."""
    x = x.reshape(x.shape[0], x.shape[1] // count, count, *x.shape[2:])
    first = x.detach().nan_to_num(nan=-math.inf).argmax(2, keepdim=True)
    y = x.gather(2, first).squeeze(2)
    return torch.where(y > least, y, least)


def outputs_of(x: Tensor, classes: Tensor, size: int) -> Tensor:
    """The ``size`` channels of ``x`` that belong to each item's class."""
    items = torch.arange(x.shape[0], device=x.device)
    blocks = x.reshape(x.shape[0], x.shape[1] // size, size, *x.shape[2:])
    y = blocks[items, classes.flatten().long()]
    return y.reshape(*y.shape, *[1] * (4 - y.ndim))


def above_zero(x: Tensor) -> Tensor:
    """1 where ``x`` is above 0, else 0."""
    return (x > 0).to(x.dtype)


def spatial_softmax(x: Tensor, temperature: float) -> Tensor:
    """The softmax of ``x / temperature`` over the last two axes."""
    return (x / temperature).flatten(-2).softmax(-1).view_as(x)


def decode_ordinals(x: Tensor) -> Tensor:
    """How many odd channels are above the channel before each."""
    above = x[:, 1::2] > x[:, 0::2][:, : x.shape[1] // 2]
    return above.sum(1, keepdim=True).to(x.dtype)


def mean_distance(first: Tensor, second: Tensor) -> Tensor:
    """How far points of three channels each are apart in the mean: (1, 1, 1, 1)."""
    apart = (first.flatten(1) - second.flatten(1)).detach()
    count = apart.shape[1] // 3
    points = apart[:, : 3 * count].reshape(len(apart), count, 3)
    return points.square().sum(2).sqrt().mean().reshape(1, 1, 1, 1)
