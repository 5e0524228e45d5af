"""Convolution whose taps read where offsets say."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def deformable_convolution(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    pad: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """The convolution of ``x`` (N, C, H, W) with each tap moved by ``offset``.

    ``offset`` (N, G 2 K, H', W') has, for each of G groups of channels and each of the
    K taps, the rows and the columns to move by. Taps outside of ``x`` read 0.
    """
    n, c, height, width = x.shape
    outputs, _, taps_h, taps_w = weight.shape
    taps, size = taps_h * taps_w, offset.shape[2:]
    offset = offset.reshape(-1, taps, 2, size[0], size[1])
    shifts = torch.arange(taps, device=x.device)
    rows = torch.arange(size[0], device=x.device) * stride[0] - pad[0]
    columns = torch.arange(size[1], device=x.device) * stride[1] - pad[1]
    shift_h = torch.div(shifts, taps_w, rounding_mode="floor") * dilation[0]
    row = offset[:, :, 0] + (shift_h[:, None] + rows)[:, :, None]
    column = offset[:, :, 1] + (shifts % taps_w * dilation[1])[:, None, None] + columns
    inside = (row >= 0) & (column >= 0) & (row < height) & (column < width)
    row, column = (torch.where(inside, place, 0) for place in (row, column))
    top, left = torch.floor(row), torch.floor(column)
    below, right = row - top, column - left
    groups_of_offsets = offset.shape[0] // n
    pixels = x.reshape(n * groups_of_offsets, c // groups_of_offsets, -1)
    values = torch.zeros((), dtype=x.dtype, device=x.device)
    for down, by_row in ((0, 1 - below), (1, below)):
        for along, by_column in ((0, 1 - right), (1, right)):
            at = (top + down).clamp(max=height - 1).long() * width
            at = (at + (left + along).clamp(max=width - 1).long()).flatten(1)[:, None]
            read = pixels.gather(2, at.expand(-1, pixels.shape[1], -1))
            values = values + read * (by_row * by_column).flatten(1)[:, None]
    values = torch.where(inside.flatten(1)[:, None], values, 0)
    table = values.reshape(n, groups, c // groups * taps, -1)
    y = torch.matmul(weight.reshape(groups, outputs // groups, -1), table)
    y = y.reshape(n, outputs, size[0], size[1])
    return y if bias is None else y + bias[:, None, None]
