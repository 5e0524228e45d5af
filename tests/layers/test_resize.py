from __future__ import annotations

from math import floor

import numpy as np
import pytest
from harness import check_layer, layer_error


def layer(param: str) -> str:
    return f'type: "Resize" resize_param {{ {param} }}'


def oracle(x, size):
    height, width = x.shape[2:]
    y = np.zeros((*x.shape[:2], *size))
    for i, j in np.ndindex(*size):
        row, column = i * height / size[0], j * width / size[1]
        for k, m in ((0, 0), (0, 1), (1, 0), (1, 1)):
            a, b = floor(row) + k, floor(column) + m
            if a < height and b < width:
                y[:, :, i, j] += (1 - abs(row - a)) * (1 - abs(column - b)) * x[:, :, a, b]
    return y


@pytest.mark.parametrize(
    ("param", "size"),
    [
        ("is_pyramid_test: false height: 11 width: 4", (11, 4)),
        ("is_pyramid_test: false height: 5 width: 14", (5, 14)),
        ("is_pyramid_test: true out_height_scale: 1.5 out_width_scale: 2", (7, 14)),
        ("height_fac: 0.707 width_fac: 0.5", (3, 3)),
    ],
)
def test_bilinear_between_corners(param, size):
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    check_layer(layer(param), [x], [oracle(x, size)])


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("height: 2", "resize_param.width: it is required"),
        ("is_pyramid_test: true height: 2 width: 2", "resize_param.out_height_scale: it is"),
        ("height_fac: 0.5", "resize_param.width_fac: it is required"),
        ("height: 2 width: 2 width_fac: 1", "a size and factors are given; keep one"),
        ("height: 2 width: 2", "write is_pyramid_test: false for that of DenseBox"),
        ("is_pyramid_test: false height: 0 width: 2", "the output size (0, 2) is not positive"),
    ],
)
def test_refuses(param, message):
    assert message in str(layer_error(layer(param), [(2, 3, 5, 7)]))
