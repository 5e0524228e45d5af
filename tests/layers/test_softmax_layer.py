from __future__ import annotations

import numpy as np
from harness import check_layer, layer_error

FIELDS = 'type: "Python" python_param { module: "pylayers" layer: "SoftmaxLayer" }'


def test_no_probability_is_near_0() -> None:
    x = 20 * np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    y = np.exp(x - x.max(1, keepdims=True))
    y = y / y.sum(1, keepdims=True) + 0.0001
    check_layer(FIELDS, [x], [y / y.sum(1, keepdims=True)])


def test_other_axes_are_refused() -> None:
    assert "axes" in str(layer_error(FIELDS, [(2, 3)]))
