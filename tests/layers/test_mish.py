from __future__ import annotations

import numpy as np
from elementwise import check_elementwise


def test_mish() -> None:
    check_elementwise('type: "Mish"', lambda x: x * np.tanh(np.log1p(np.exp(x))), -60, 60)
