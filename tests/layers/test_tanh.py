from __future__ import annotations

import numpy as np
from elementwise import check_elementwise


def test_tanh() -> None:
    check_elementwise('type: "TanH"', np.tanh, -10, 10)
