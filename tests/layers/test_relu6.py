from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer


@pytest.mark.parametrize(("param", "slope"), [("", 0), ("negative_slope: 0.25", 0.25)])
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (5,)])
def test_saturates_at_6(param, slope, shape):
    x = 5 * np.random.default_rng(0).standard_normal(shape)
    y = np.minimum(np.maximum(x, 0) + slope * np.minimum(x, 0), 6)
    check_layer(f'type: "ReLU6" relu6_param {{ {param} }}', [x], [y])
