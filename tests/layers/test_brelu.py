from __future__ import annotations

import numpy as np
import pytest
from elementwise import check_elementwise
from harness import layer_error


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.5, 2.25), (1, -1)])
def test_limits_both_ways(low: float, high: float) -> None:
    check_elementwise(
        f'type: "BReLU" brelu_param {{ minval: {low} maxval: {high} }}',
        lambda x: np.minimum(np.maximum(x, low), high),
    )


def test_both_are_required() -> None:
    error = layer_error('type: "BReLU" brelu_param { minval: 0 }', [(2, 3)])
    assert "brelu_param.maxval: it is required; give a number" in str(error)
