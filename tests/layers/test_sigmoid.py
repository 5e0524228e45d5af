from __future__ import annotations

import numpy as np
from elementwise import check_elementwise


def test_sigmoid() -> None:
    check_elementwise('type: "Sigmoid"', lambda x: 1 / (1 + np.exp(-x)), -30, 30)
