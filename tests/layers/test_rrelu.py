from __future__ import annotations

import numpy as np
from harness import check_layer, layer_error


def test_negative_numbers_are_divided_by_the_mean_slope() -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 7))
    expected = np.maximum(x, 0) + np.minimum(x, 0) / (20 / np.log(3))
    check_layer('type: "RReLU" rrelu_param { lb: 10 ub: 30 }', [x], [expected])


def test_refuses() -> None:
    error = layer_error('type: "RReLU" rrelu_param { lb: 3 ub: 2 }', [(2, 3)])
    assert "rrelu_param: lb 3 and ub 2 must rise" in str(error)
    assert "draws at random" in str(layer_error('type: "RReLU"', [(2, 3)], phase="TRAIN"))
