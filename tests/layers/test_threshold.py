from __future__ import annotations

import numpy as np
import pytest
from elementwise import check_elementwise
from harness import check_layer


@pytest.mark.parametrize(("param", "threshold"), [("", 0), ("threshold: -0.7", -0.7)])
def test_threshold(param: str, threshold: float) -> None:
    check_elementwise(
        f'type: "Threshold" threshold_param {{ {param} }}', lambda x: (x > threshold) * 1.0
    )


def test_an_equal_number_is_not_above() -> None:
    check_layer(
        'type: "Threshold" threshold_param { threshold: 0.1 }',
        [np.float32([0.1, 0.100001, 0.099999])],
        [np.array([0, 1, 0])],
    )
