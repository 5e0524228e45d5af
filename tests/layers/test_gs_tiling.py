from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error


def layer(param: str) -> str:
    return f'type: "GSTiling" gs_tiling_param {{ {param} }}'


def tiled(x, s):
    batch, channels, height, width = x.shape
    y = np.zeros((batch, channels * s * s, height // s, width // s))
    for n, c, i, j in np.ndindex(*x.shape):
        y[n, ((i % s) * s + j % s) * channels + c, i // s, j // s] = x[n, c, i, j]
    return y


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_pixels_to_channels_and_back(stride):
    x = np.random.default_rng(0).standard_normal((2, 3, 2 * stride, 5 * stride))
    y = tiled(x, stride)
    check_layer(layer(f"stride: {stride} reverse: false"), [x], [y], rtol_peak=0)
    check_layer(layer(f"stride: {stride} reverse: true"), [y], [x], rtol_peak=0)


@pytest.mark.parametrize(
    ("param", "shape", "message"),
    [
        ("reverse: true", (1, 4, 2, 2), "stride: it must be given and positive"),
        ("stride: 2", (1, 4, 2, 2), "write reverse: true or reverse: false"),
        ("stride: 2 reverse: true", (1, 6, 2, 2), "6 channels are not divisible by 4"),
        ("stride: 2 reverse: false", (1, 4, 3, 2), "height 3 and width 2 are not divisible by 2"),
    ],
)
def test_refusals(param, shape, message):
    assert message in str(layer_error(layer(param), [shape]))
