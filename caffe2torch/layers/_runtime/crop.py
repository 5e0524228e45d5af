"""Cropping."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def crop(x: Tensor, reference: Tensor, start: int, offsets: Sequence[int]) -> Tensor:
    """``x`` from ``offsets`` on, as large as ``reference``, on axes from ``start``."""
    for dim, offset in enumerate(offsets, start):
        x = x.narrow(dim, offset, reference.shape[dim])
    return x
