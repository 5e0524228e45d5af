from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from harness import check_layer, layer_error


def cells(low: float, high: float, scale: float, offset: float) -> tuple[int, int]:
    """The first and the last cell of a box on one axis."""
    first = math.floor((low + 1 + offset) * scale + 0.5)
    last = math.ceil((high + 1 - offset) * scale - 0.5)
    if first > last:
        first = last = int((first + last) / 2)
    return first, last


def pooled(data: Any, regions: Any, size: tuple[int, int], scale: float, offset: float) -> Any:
    """By the loops of the fork."""
    height, width = data.shape[2:]
    y = np.zeros((len(regions), data.shape[1], *size))
    for r, (image, *b) in enumerate(regions):
        (x1, x2), (y1, y2) = (cells(b[i], b[i + 2], scale, offset) for i in (0, 1))
        (u1, u2), (v1, v2) = (cells(b[i], b[i + 2], scale, offset) for i in (4, 5))
        bin_h, bin_w = (max(b - a + 1, 1) / n for a, b, n in ((y1, y2, size[0]), (x1, x2, size[1])))
        for i, j in np.ndindex(*size):
            rows = range(math.floor(i * bin_h) + y1, math.ceil((i + 1) * bin_h) + y1)
            columns = range(math.floor(j * bin_w) + x1, math.ceil((j + 1) * bin_w) + x1)
            for h in rows:
                for w in columns:
                    inside = u1 < w < u2 and v1 < h < v2
                    if 0 <= h < height and 0 <= w < width and not inside:
                        y[r, :, i, j] = np.maximum(y[r, :, i, j], data[int(image), :, h, w])
    return y


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("size", [(2, 4), (1, 1), (4, 2)])
def test_the_inner_box_does_not_count(seed: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(2, 3, 11, 13)).astype(np.float32)
    corners = rng.integers(-20, 120, (19, 2, 2, 2))
    corners.sort(axis=2)
    corners[0] = corners[0, :, ::-1]
    corners[1, 1] = 0
    regions = np.concatenate([rng.integers(0, 2, (19, 1)), corners.reshape(19, 8)], 1)
    text = f"""type: "RegionPooling" region_pooling_param {{ pooled_h: {size[0]} pooled_w: {size[1]}
        spatial_scale: 0.125 }}"""
    check_layer(text, [data, regions], [pooled(data, regions, size, 0.125, 6)], onnx=False)


def test_refuses() -> None:
    text = 'type: "RegionPooling" region_pooling_param { pooled_h: 3 pooled_w: 2 }'
    assert "is not (R, 9)" in str(layer_error(text, [(2, 3, 5, 7), (4, 5)]))
