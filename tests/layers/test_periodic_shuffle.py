from __future__ import annotations

import numpy as np
from harness import check_layer, layer_error

FIELDS = 'type: "PeriodicShuffle" periodic_shuffle_param {{ num_output: {} group_size: {} }}'


def test_channels_become_pixels() -> None:
    x = np.random.default_rng(0).standard_normal((2, 27, 5, 7))
    y = np.zeros((2, 3, 15, 21))
    for n, c, h, w in np.ndindex(*x.shape):
        group = c // 3
        y[n, c % 3, 3 * h + group // 3, 3 * w + group % 3] = x[n, c, h, w]
    check_layer(FIELDS.format(3, 3), [x], [y])


def test_refuses() -> None:
    shapes = [(2, 27, 5, 7)]
    assert "27 channels, not 12" in str(layer_error(FIELDS.format(3, 2), shapes))
    assert "group_size: must be given" in str(layer_error(FIELDS.format(3, 0), shapes))
