from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error


@pytest.mark.parametrize("shape", [(2, 5), (2, 3, 5, 7), (2, 3, 2, 5, 3)])
def test_items_have_length_one(shape):
    x = np.random.default_rng(0).standard_normal(shape)
    x[0] *= 1e-4  # So that the 1e-7 counts.
    sums = (x**2).reshape(len(x), -1).sum(1).reshape(-1, *[1] * (len(shape) - 1))
    check_layer('type: "L2Normalize"', [x], [x * (sums + 1e-7) ** -0.5])


def test_one_axis_is_refused():
    assert "fewer than two axes" in str(layer_error('type: "L2Normalize"', [(5,)]))
