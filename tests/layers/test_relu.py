from __future__ import annotations

import numpy as np
import pytest
from elementwise import check_elementwise


@pytest.mark.parametrize("slope", [0, 0.1, -0.5, 2])
def test_slope(slope: float) -> None:
    check_elementwise(
        f'type: "ReLU" relu_param {{ negative_slope: {slope} }}',
        lambda x: np.maximum(x, 0) + slope * np.minimum(x, 0),
    )


def test_default() -> None:
    check_elementwise('type: "ReLU" relu_param { engine: CAFFE }', lambda x: np.maximum(x, 0))
