"""Pixels moved and spread."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def reorg(x: Tensor, stride: int, reverse: bool) -> Tensor:
    """Darknet's reorg: pixels to channels or, with ``reverse``, channels to pixels."""
    n, c, h, w = x.shape
    s = stride
    if reverse:
        blocks = x.reshape(n, s, s, c // (s * s), h, w).permute(0, 3, 4, 1, 5, 2)
        return blocks.reshape(n, c // (s * s), h * s, w * s)
    blocks = x.reshape(n, c // (s * s), h, s, w, s).permute(0, 3, 5, 1, 2, 4)
    return blocks.reshape(n, c * s * s, h // s, w // s)


def gather_blocks(x: Tensor, stride: int) -> Tensor:
    """The pixels of each ``stride`` x ``stride`` block as channels, pixel by pixel."""
    n, c, h, w = x.shape
    s = stride
    blocks = x.reshape(n, c, h // s, s, w // s, s).permute(0, 3, 5, 1, 2, 4)
    return blocks.reshape(n, c * s * s, h // s, w // s)


def unpool(x: Tensor, mask: Tensor, size: Sequence[int]) -> Tensor:
    """``x`` at the places ``mask`` of a map of ``size``, 0 elsewhere."""
    height, width = size
    y = x.new_zeros(*x.shape[:2], height * width)
    y = y.scatter(2, mask.long().flatten(2), x.flatten(2))
    return y.reshape(*x.shape[:2], height, width)


def spread(x: Tensor, stride: Sequence[int], size: Sequence[int]) -> Tensor:
    """``x`` at every ``stride``-th place of a map of ``size``, 0 elsewhere.

    Of values beyond the map the last comes to its last row or column.
    """
    height, width = size
    y = x.new_zeros(*x.shape[:2], height, width)
    rows = [min(i * stride[0], height - 1) for i in range(x.shape[2])]
    columns = [min(i * stride[1], width - 1) for i in range(x.shape[3])]
    # Of equal places the last counts.
    row_of = {row: i for i, row in enumerate(rows)}
    column_of = {column: i for i, column in enumerate(columns)}
    values = x[:, :, list(row_of.values())][:, :, :, list(column_of.values())]
    spread_rows = y.new_zeros(*x.shape[:2], height, values.shape[3])
    spread_rows[:, :, list(row_of)] = values
    y[:, :, :, list(column_of)] = spread_rows
    return y


def zoomed_size(x: Tensor, crop: int, shrink: int, zoom: int) -> list[int]:
    """Height and width of ``x`` less a crop, first shrunk, then zoomed."""
    shrunk = [(n + crop - 1) // shrink + 1 for n in x.shape[2:]]
    return [n + (n - 1) * (zoom - 1) for n in shrunk]


def crop(x: Tensor, reference: Tensor, start: int, offsets: Sequence[int]) -> Tensor:
    """``x`` from ``offsets`` on, as large as ``reference``, on axes from ``start``."""
    for dim, offset in enumerate(offsets, start):
        x = x.narrow(dim, offset, reference.shape[dim])
    return x


def merge_crop(
    a: Tensor,
    b: Tensor,
    stacks: bool,
    forward: Sequence[bool],
    backward: Sequence[bool],
) -> Tensor:
    """``a`` and the middle of ``b`` as large as it, along the channels or added.

    One without ``forward`` counts as zeros, one without ``backward`` has no gradient.
    """
    for dim in range(2, a.ndim):
        size = a.shape[dim]
        b = b.narrow(dim, (b.shape[dim] - size) // 2, size)
    parts = [
        x.detach() if runs and not learns else x if runs else torch.zeros_like(x)
        for x, runs, learns in zip((a, b), forward, backward, strict=True)
    ]
    return torch.cat(parts, 1) if stacks else parts[0] + parts[1]


def spatial_attention(
    x: Tensor,
    masks: Tensor,
    window: Sequence[int],
    factor: float,
    softmax: bool,
    distributes: bool,
) -> Tensor:
    """Each pixel of ``x`` from all others, by the weights in ``masks`` (PSANet).

    The masks of a pixel are for a ``window`` (rows, columns) around it.
    """
    height, width = x.shape[2:]
    pixels = torch.arange(height * width, device=x.device)
    rows, columns = pixels // width, pixels % width
    down = rows[:, None] - rows + window[0] // 2
    right = columns[:, None] - columns + window[1] // 2
    inside = (down >= 0) & (down < window[0]) & (right >= 0) & (right < window[1])
    at = torch.where(inside, (down * window[1] + right) * len(pixels) + pixels, 0)
    weights = torch.where(inside, masks.flatten(1)[:, at], 0)
    if distributes:
        weights = weights.transpose(1, 2)
    if softmax:
        weights = weights.softmax(1)
    return (x.flatten(2) @ weights / factor).view_as(x)


def periodic_shuffle(x: Tensor, size: int) -> Tensor:
    """Groups of channels as the pixels of ``size`` x ``size`` blocks."""
    n, c, h, w = x.shape
    blocks = x.reshape(n, size, size, c // size**2, h, w).permute(0, 3, 4, 1, 5, 2)
    return blocks.reshape(n, c // size**2, h * size, w * size)
