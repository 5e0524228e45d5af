from __future__ import annotations

from math import floor
from typing import Any

import numpy as np
import pytest
from harness import check_layer, layer_error
from region_oracles import c_round, random_regions


def layer(height: int, width: int, scale: float = 1) -> str:
    return (
        f'type: "ROIWarping" roi_warping_param {{ pooled_h: {height} pooled_w: {width}'
        f" spatial_scale: {scale} }}"
    )


def oracle(data, regions, pooled, scale):
    """roi_warping_layer.cu, one value at a time; places are float32 as there."""
    channels, *size = data.shape[1:]
    out = np.zeros((len(regions), channels, *pooled))
    for r, region in enumerate(regions.reshape(len(regions), 5).astype(np.float32)):
        x1, y1, x2, y2 = (c_round(value * np.float32(scale)) for value in region[1:])
        steps = [np.float32(max(length, 0)) for length in (y2 - y1, x2 - x1)]
        steps = [step / np.float32(count) for step, count in zip(steps, pooled, strict=True)]
        for i in range(pooled[0]):
            for j in range(pooled[1]):
                place = [y1 + i * steps[0], x1 + j * steps[1]]
                if all(-0.5 <= p <= n - 0.5 for p, n in zip(place, size, strict=True)):
                    out[r, :, i, j] = between(data[int(region[0])], place)
    return out


def between(image, place):
    low: list[Any] = []
    part: list[Any] = []
    for value, count in zip(place, image.shape[1:], strict=True):
        value = max(value, 0)
        last = floor(value) >= count - 1
        low.append(count - 1 if last else floor(value))
        part.append(0 if last else value - floor(value))
    y, x, wy, wx = *low, *part
    above, below = min(y + 1, image.shape[1] - 1), min(x + 1, image.shape[2] - 1)
    return (1 - wy) * ((1 - wx) * image[:, y, x] + wx * image[:, y, below]) + wy * (
        (1 - wx) * image[:, above, x] + wx * image[:, above, below]
    )


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("pooled", "scale"), [((7, 7), 0.125), ((2, 5), 0.5), ((1, 3), 1)])
def test_any_region_of_any_image(seed, pooled, scale):
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(2, 3, 11, 13)).astype(np.float32)
    regions = [random_regions(rng, count, 2, 13 / scale).astype(np.float32) for count in (17, 5)]
    expected = [oracle(data, rows, pooled, scale) for rows in regions]
    text = layer(*pooled, scale)
    check_layer(text, [data, regions[0]], [expected[0]])
    check_layer(text, [data, regions[1][:, :, None, None]], [expected[1]])


def test_halves_go_away_from_zero_and_an_inverted_region_is_a_point():
    data = np.arange(20.0).reshape(1, 1, 4, 5)
    corners: list[list[float]] = [
        [0.5, 1.5, 2.5, 3.5],
        [-0.5, 0, 3, 2],
        [3, 2, 1, 1],
        [2.4999998, 0, 4, 1],
    ]
    regions = np.array([[0, *row] for row in corners], np.float32)
    expected = oracle(data, regions, (2, 2), 1)
    assert expected[0, 0].ravel().tolist() == [11, 12, 16, 17]
    assert (expected[1] == 0).any()
    assert (expected[2] == 13).all()
    check_layer(layer(2, 2), [data, regions], [expected])


def test_a_size_is_asked_for():
    error = layer_error(layer(0, 2), [(1, 2, 5, 7), (3, 5)])
    assert "roi_warping_param.pooled_h: must be greater than 0" in str(error)
