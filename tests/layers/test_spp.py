from __future__ import annotations

import math

import numpy as np
import pytest
from harness import check_layer, layer_error
from spatial_oracles import Array, pooling

from caffe2torch.errors import NetError


def layer(param: str) -> str:
    return f'type: "SPP" spp_param {{ {param} }}'


def pyramid(x: Array, height: int, method: str) -> Array:
    levels = []
    for level in range(height):
        kernel = [math.ceil(n / 2**level) for n in x.shape[2:]]
        pad = [(k * 2**level - n + 1) // 2 for k, n in zip(kernel, x.shape[2:], strict=True)]
        levels.append(pooling(x, kernel, kernel, pad, method)[0])
    if height == 1:
        return levels[0]
    return np.concatenate([y.reshape(len(x), -1) for y in levels], 1)


@pytest.mark.parametrize("method", ["MAX", "AVE"])
@pytest.mark.parametrize(
    ("height", "size"), [(1, (5, 7)), (2, (5, 7)), (3, (7, 11)), (3, (8, 9)), (4, (23, 16))]
)
def test_levels(method, height, size):
    x = np.random.default_rng(0).standard_normal((2, 3, *size))
    y = pyramid(x, height, method)
    assert y.size == 2 * 3 * sum(4**level for level in range(height))
    check_layer(layer(f"pyramid_height: {height} pool: {method}"), [x], [y])


def test_stochastic_where_no_level_is_padded():
    x = np.random.default_rng(1).random((2, 3, 4, 8))
    text = layer("pyramid_height: 3 pool: STOCHASTIC")
    check_layer(text, [x], [pyramid(x, 3, "STOCHASTIC")])


@pytest.mark.parametrize(
    ("param", "shape", "message"),
    [
        ("", (2, 3, 5, 7), "pyramid_height: it must be given and positive"),
        ("pyramid_height: 2", (2, 3, 5), "bottom must have 4 axes"),
        ("pyramid_height: 3", (2, 3, 5, 8), "level 2 has too many bins"),
        ("pyramid_height: 2 pool: STOCHASTIC", (2, 3, 5, 8), "level 1 needs padding"),
    ],
)
def test_what_caffe_refuses(param, shape, message):
    error = layer_error(layer(param), [shape])
    assert isinstance(error, NetError)
    assert message in str(error)
