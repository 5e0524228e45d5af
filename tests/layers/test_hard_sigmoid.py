from __future__ import annotations

import numpy as np
import pytest
from elementwise import check_elementwise


@pytest.mark.parametrize(
    ("param", "alpha", "beta"), [("", 0.2, 0.5), ("alpha: 0.5 beta: -0.25", 0.5, -0.25)]
)
def test_hard_sigmoid(param: str, alpha: float, beta: float) -> None:
    check_elementwise(
        f'type: "HardSigmoid" hard_sigmoid_param {{ {param} }}',
        lambda x: np.clip(alpha * x + beta, 0, 1),
    )
