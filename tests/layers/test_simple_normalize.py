from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error


@pytest.mark.parametrize("shape", [(3,), (2, 5), (2, 5, 3), (2, 3, 5, 7)])
def test_length_one(shape):
    x = np.random.default_rng(0).standard_normal(shape)
    norm = np.sqrt((x**2).reshape(len(x), -1).sum(1)).reshape(-1, *[1] * (len(shape) - 1))
    top = (*shape, 1, 1, 1)[:4]
    check_layer('type: "SimpleNormalize"', [x], [(x / norm).reshape(top)])


def test_five_axes_are_refused():
    assert "one to four axes" in str(layer_error('type: "SimpleNormalize"', [(1, 2, 3, 4, 5)]))
