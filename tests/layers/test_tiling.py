from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error


def layer(param: str) -> str:
    return f'type: "Tiling" tiling_param {{ {param} }}'


@pytest.mark.parametrize("t", [1, 2, 3])
def test_channels_to_pixels(t):
    x = np.random.default_rng(0).standard_normal((2, 3 * t * t, 5, 7))
    y = np.zeros((2, 3, 5 * t, 7 * t))
    for n, c, h, w in np.ndindex(*x.shape):
        i, j = divmod(c % (t * t), t)
        y[n, c // (t * t), h * t + i, w * t + j] = x[n, c, h, w]
    check_layer(layer(f"tile_dim: {t}"), [x], [y], rtol_peak=0)


def test_refusals():
    assert "must be given and positive" in str(layer_error(layer(""), [(1, 4, 2, 3)]))
    assert "6 channels are not divisible by 4" in str(
        layer_error(layer("tile_dim: 2"), [(1, 6, 2, 3)])
    )
