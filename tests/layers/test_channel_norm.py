from __future__ import annotations

import numpy as np
from harness import check_layer, layer_error


def test_the_length_of_each_pixel() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    x[0, :, 0, 0] = 0
    check_layer('type: "ChannelNorm"', [x], [np.sqrt((x**2).sum(1, keepdims=True))])
    assert "must have 4 axes" in str(layer_error('type: "ChannelNorm"', [(2, 3, 5)]))
