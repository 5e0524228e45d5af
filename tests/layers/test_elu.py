from __future__ import annotations

import numpy as np
import pytest
from elementwise import check_elementwise


@pytest.mark.parametrize(("param", "alpha"), [("", 1), ("alpha: 0.3", 0.3), ("alpha: -2", -2)])
def test_elu(param: str, alpha: float) -> None:
    check_elementwise(
        f'type: "ELU" elu_param {{ {param} }}',
        lambda x: np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0)),
    )
