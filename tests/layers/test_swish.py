from __future__ import annotations

import numpy as np
import pytest
from elementwise import check_elementwise


@pytest.mark.parametrize(
    ("param", "beta"), [("", 1), ("beta: 1.7", 1.7), ("beta: -0.5", -0.5), ("beta: 0", 0)]
)
def test_swish(param: str, beta: float) -> None:
    check_elementwise(
        f'type: "Swish" swish_param {{ {param} }}', lambda x: x / (1 + np.exp(-beta * x))
    )
