from __future__ import annotations

import numpy as np
from harness import check_layer, layer_error


def test_over_the_channels() -> None:
    x = 3 * np.random.default_rng(0).standard_normal((2, 3, 4, 5, 7))
    powers = np.exp(x)
    check_layer('type: "VoxelSoftmax"', [x], [powers / powers.sum(1, keepdims=True)])


def test_refuses_images() -> None:
    error = layer_error('type: "VoxelSoftmax"', [(2, 3, 5, 7)])
    assert "has not five axes" in str(error)
