from __future__ import annotations

import numpy as np
from harness import check_layer, layer_error


def test_channels_have_length_one():
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    x[0, :, 0] *= 1e-6  # So that the 1e-6 counts.
    x[1, :, 2, 3] = 0
    check_layer('type: "Norm"', [x], [x / (np.sqrt((x**2).sum(1, keepdims=True)) + 1e-6)])


def test_four_axes_are_asked_for():
    assert "axes" in str(layer_error('type: "Norm"', [(2, 5)]))
