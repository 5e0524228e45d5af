from __future__ import annotations

import numpy as np
from harness import check_layer, layer_error


def test_each_channel_stands_once_for_every_orientation() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    y = np.stack([x] * 4, 2).reshape(2, 12, 5, 7)
    check_layer('type: "Extend" orn_param { orientations: 4 }', [x], [y])


def test_refuses() -> None:
    assert "1 is not greater than 1" in str(
        layer_error('type: "Extend" orn_param { orientations: 1 }', [(2, 3, 5, 7)])
    )
    assert "axes" in str(layer_error('type: "Extend" orn_param { orientations: 2 }', [(2, 3)]))
