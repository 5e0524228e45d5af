from __future__ import annotations

from math import floor

import numpy as np
import pytest
import torch
from harness import check_layer, layer_error
from region_oracles import random_regions

from caffe2torch.errors import Caffe2TorchError


def layer(height: int, width: int, scale: float = 1, pad: float = 0) -> str:
    return (
        f'type: "ROIAlign" roi_pooling_param {{ pooled_h: {height} pooled_w: {width}'
        f" spatial_scale: {scale} pad_ratio: {pad} }}"
    )


def oracle(data, regions, pooled, scale, pad):
    channels, height, width = data.shape[1:]
    out = np.zeros((len(regions), channels, pooled[0] + 1, pooled[1] + 1))
    one, half = np.float32(1), np.float32(0.5)
    for r, region in enumerate(regions.reshape(len(regions), 5).astype(np.float32)):
        x1, y1, x2, y2 = region[1:]
        px, py = (x2 - x1 + one) * np.float32(pad), (y2 - y1 + one) * np.float32(pad)
        x1, y1, x2, y2 = (
            edge * np.float32(scale) - half for edge in (x1 - px, y1 - py, x2 + px, y2 + py)
        )
        if x2 <= x1 or y2 <= y1:
            continue
        for i in range(pooled[0] + 1):
            y = y1 + np.float32(i) * ((y2 - y1) / np.float32(pooled[0]))
            for j in range(pooled[1] + 1):
                x = x1 + np.float32(j) * ((x2 - x1) / np.float32(pooled[1]))
                if -0.5 <= y <= height - 0.5 and -0.5 <= x <= width - 0.5:
                    out[r, :, i, j] = between(data[int(region[0])], float(y), float(x))
    return out


def between(image, y, x):
    height, width = image.shape[1:]
    total = np.zeros(len(image))
    ends = (floor(y), floor(x))
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    rows = [min(max(ends[0] + k, 0), height - 1) for k in (0, 1)]
    columns = [min(max(ends[1] + k, 0), width - 1) for k in (0, 1)]
    for row, wy in zip(rows, (1 - (y - rows[0]), y - rows[0]), strict=True):
        for column, wx in zip(columns, (1 - (x - columns[0]), x - columns[0]), strict=True):
            total += wy * wx * image[:, row, column]
    return total


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("pooled", "scale", "pad"), [((7, 7), 0.125, 0), ((2, 5), 0.5, 0.25), ((1, 3), 1, 0.1)]
)
def test_any_region_of_any_image(seed, pooled, scale, pad):
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(2, 3, 11, 13)).astype(np.float32)
    regions = [random_regions(rng, count, 2, 13 / scale).astype(np.float32) for count in (17, 5)]
    expected = [oracle(data, rows, pooled, scale, pad) for rows in regions]
    assert np.abs(expected[0]).max() > 1
    text = layer(*pooled, scale, pad)
    check_layer(text, [data, regions[0]], [expected[0]])
    check_layer(text, [data, regions[1][:, :, None, None]], [expected[1]])


def test_gradients_go_to_the_cells_beside_a_corner():
    from refusals import resolved

    from caffe2torch.lower.eager import module_of

    data = torch.zeros(1, 1, 4, 5, requires_grad=True)
    module = module_of(resolved(f'bottom: "a" bottom: "b" top: "t" {layer(1, 1)}'), [])
    module(data, torch.tensor([[0.0, 1.75, 1.5, 9, 9]])).sum().backward()
    wanted = torch.zeros(1, 1, 4, 5)
    wanted[0, 0, 1, 1], wanted[0, 0, 1, 2] = 0.75, 0.25
    torch.testing.assert_close(data.grad, wanted)


@pytest.mark.parametrize(
    ("text", "shapes", "wanted"),
    [
        (layer(0, 2), ((1, 2, 3, 5), (7, 5)), "pooled_h: must be greater than 0"),
        (layer(2, 2), ((1, 2, 3), (7, 5)), "is not (N, C, H, W)"),
        ('type: "ROIAlign" roi_align_param { pooled_h: 2 }', ((1, 2, 3, 5), (7, 5)), "roi_align"),
    ],
)
def test_refusals(text, shapes, wanted):
    error = layer_error(text, shapes)
    assert isinstance(error, Caffe2TorchError)
    assert wanted in str(error)
