"""Images read at places between their pixels, by loops."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def sampled(image: Any, places: Any) -> Any:
    """image (N, C, H, W) at places (N, 2, H', W'), its pixels weighted by how near they are."""
    height, width = image.shape[2:]
    y = np.zeros((*image.shape[:2], *places.shape[2:]))
    for n, i, j in np.ndindex(len(image), *places.shape[2:]):
        column, row = places[n, :, i, j]
        for r in (math.floor(row), math.floor(row) + 1):
            for c in (math.floor(column), math.floor(column) + 1):
                if 0 <= r < height and 0 <= c < width:
                    share = (1 - abs(row - r)) * (1 - abs(column - c))
                    y[n, :, i, j] += share * image[n, :, r, c]
    return y


def places_around(shape: tuple[int, int, int], size: tuple[int, int]) -> Any:
    """Places (N, 2, H', W') in and around an image of ``size``: (N, H', W')."""
    rng = np.random.default_rng(1)
    height, width = size
    batch, rows, columns = shape
    x = rng.uniform(-2, width + 1, (batch, 1, rows, columns))
    y = rng.uniform(-2, height + 1, (batch, 1, rows, columns))
    places = np.concatenate([x, y], 1)
    places[0, :, 0, 0] = 0, 0
    places[0, :, 0, 1] = width - 1, height - 1
    places[0, :, 0, 2] = width, 1
    places[0, :, 1, 0] = 1.5, -1
    places[0, :, 1, 1] = 1e9, -1e9
    return places
