from __future__ import annotations

import numpy as np
import pytest
from elementwise import check_elementwise

ALPHA, LAMBDA = 1.6732632423543772, 1.0507009873554805


@pytest.mark.parametrize(
    ("param", "alpha", "gain"),
    [("", ALPHA, LAMBDA), ("alpha: 0.5", 0.5, LAMBDA), ("lambda: 2", ALPHA, 2)],
)
@pytest.mark.parametrize("kind", ["SeLU", "SeLu", "SELU"])
def test_selu(kind: str, param: str, alpha: float, gain: float) -> None:
    check_elementwise(
        f'type: "{kind}" selu_param {{ {param} }}',
        lambda x: gain * (np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0))),
    )
