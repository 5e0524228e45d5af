"""Arithmetic of default boxes, for numbers, numpy arrays and tensors alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def box_edges(
    plane: Sequence[int],
    image: Sequence[float],
    step: Sequence[float] | None,
    offset: Any,
    shift: Any,
    cells: Any,
    extents: Any,
) -> Any:
    """Low and high edges on each axis of every cell's boxes, as fractions of the image.

    ``plane`` is the map's height and width. The others hold something for each axis:
    ``cells`` the indices of the cells, ``extents`` the sizes of the boxes, ``offset``
    (in cells) and ``shift`` (in pixels) the way from a cell's corner to a box's centre.
    """
    edges = []
    for axis in range(2):
        stride = step[axis] if step else image[axis] / plane[axis]
        centre = (cells[axis] + offset[axis]) * stride + shift[axis]
        half = extents[axis] / 2
        edges.append(((centre - half) / image[axis], (centre + half) / image[axis]))
    return edges
