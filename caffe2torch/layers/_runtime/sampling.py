"""Pixels moved and spread."""

from __future__ import annotations

from collections.abc import Sequence

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


def unpool(x: Tensor, mask: Tensor, size: Sequence[int]) -> Tensor:
    """``x`` at the places ``mask`` of a map of ``size``, 0 elsewhere."""
    height, width = size
    y = x.new_zeros(*x.shape[:2], height * width)
    y = y.scatter(2, mask.long().flatten(2), x.flatten(2))
    return y.reshape(*x.shape[:2], height, width)


def zoomed_size(x: Tensor, crop: int, shrink: int, zoom: int) -> list[int]:
    """Height and width of ``x`` less a crop, first shrunk, then zoomed."""
    shrunk = [(n + crop - 1) // shrink + 1 for n in x.shape[2:]]
    return [n + (n - 1) * (zoom - 1) for n in shrunk]


def crop(x: Tensor, reference: Tensor, start: int, offsets: Sequence[int]) -> Tensor:
    """``x`` from ``offsets`` on, as large as ``reference``, on axes from ``start``."""
    for dim, offset in enumerate(offsets, start):
        x = x.narrow(dim, offset, reference.shape[dim])
    return x
