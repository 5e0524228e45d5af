from __future__ import annotations

import numpy as np
import pytest
from elementwise import check_elementwise
from harness import layer_error


@pytest.mark.parametrize(
    ("fields", "slope", "most"),
    [
        ("", 0, 6),
        ("maximal_value: 1.5", 0, 1.5),
        ("negative_slope: 0.25 maximal_value: 2", 0.25, 2),
    ],
)
def test_saturates(fields, slope, most):
    check_elementwise(
        f'type: "ReLUX" relux_param {{ {fields} }}',
        lambda x: np.minimum(np.maximum(x, 0), most) + slope * np.minimum(x, 0),
        low=-9,
        high=9,
    )


def test_the_maximum_is_not_negative():
    error = layer_error('type: "ReLUX" relux_param { maximal_value: -1 }', [(2, 3)])
    assert "relux_param.maximal_value: -1 is negative" in str(error)
