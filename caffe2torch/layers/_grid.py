"""Where the pixels of a top lie on the bottom: what alignment by coordinates goes by."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple


class Grid(NamedTuple):
    """Pixel y of the top is at x = step * y + start of the bottom, for height and width."""

    step: tuple[Fraction, ...]
    start: tuple[Fraction, ...]

    def after(self, earlier: Grid) -> Grid:
        """The pixels of this top on the bottom of ``earlier``, which made this one's bottom."""
        starts = zip(earlier.step, self.start, earlier.start, strict=True)
        return Grid(
            tuple(a * b for a, b in zip(earlier.step, self.step, strict=True)),
            tuple(step * start + first for step, start, first in starts),
        )

    def inverse(self) -> Grid:
        """Pixels of the bottom on the top: of a transposed convolution."""
        step = tuple(1 / s for s in self.step)
        return Grid(step, tuple(-f * s for f, s in zip(self.start, step, strict=True)))


IDENTITY = Grid((Fraction(1),) * 2, (Fraction(0),) * 2)
"""Of a layer that computes each pixel from the same one."""


def of_windows(extent: Sequence[int], stride: Sequence[int], pad: Sequence[int]) -> Grid:
    """The centre of each window of ``extent`` pixels."""
    starts = zip(extent, pad, strict=True)
    return Grid(tuple(map(Fraction, stride)), tuple(Fraction(e - 1, 2) - p for e, p in starts))
