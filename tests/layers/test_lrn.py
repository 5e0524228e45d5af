from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error
from spatial_oracles import Array

from caffe2torch.errors import NetError


def layer(param: str) -> str:
    return f'type: "LRN" lrn_param {{ {param} }}'


def across(x: Array, size: int, alpha: float, beta: float, k: float) -> Array:
    y = np.empty_like(x)
    for c in range(x.shape[1]):
        window = x[:, max(0, c - size // 2) : c + size // 2 + 1]
        y[:, c] = x[:, c] * (k + alpha / size * (window**2).sum(1)) ** -beta
    return y


def within(x: Array, size: int, alpha: float, beta: float) -> Array:
    y, half = np.empty_like(x), size // 2
    for h in range(x.shape[2]):
        for w in range(x.shape[3]):
            window = x[:, :, max(0, h - half) : h + half + 1, max(0, w - half) : w + half + 1]
            scale = 1 + alpha / size**2 * (window**2).sum((2, 3))
            y[:, :, h, w] = x[:, :, h, w] * scale**-beta
    return y


@pytest.mark.parametrize(
    ("param", "arguments"),
    [
        ("", (5, 1, 0.75, 1)),
        ("local_size: 3 alpha: 0.5 beta: 0.6 k: 2.5", (3, 0.5, 0.6, 2.5)),
        ("local_size: 1 alpha: 3 engine: CAFFE", (1, 3, 0.75, 1)),
        ("local_size: 9 beta: 1.5", (9, 1, 1.5, 1)),
    ],
)
def test_across_channels(param, arguments):
    x = 3 * np.random.default_rng(0).standard_normal((2, 7, 3, 5))
    check_layer(layer(param), [x], [across(x, *arguments)])


@pytest.mark.parametrize(
    ("param", "arguments"),
    [
        ("", (5, 1, 0.75)),
        ("local_size: 3 alpha: 2 beta: 0.6 k: 7", (3, 2, 0.6)),
        ("local_size: 1", (1, 1, 0.75)),
        ("local_size: 13", (13, 1, 0.75)),
    ],
)
def test_within_channel(param, arguments):
    x = 3 * np.random.default_rng(1).standard_normal((2, 3, 5, 7))
    text = layer(f"norm_region: WITHIN_CHANNEL {param}")
    check_layer(text, [x], [within(x, *arguments)])


def test_even_size():
    error = layer_error(layer("local_size: 4"), [(2, 3, 5, 7)])
    assert isinstance(error, NetError)
    assert "local_size: 4 is even; it must be odd" in str(error)


def test_other_than_four_axes():
    assert "bottom must have 4 axes" in str(layer_error(layer(""), [(2, 3, 5)]))
