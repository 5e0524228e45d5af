from __future__ import annotations

import numpy as np
from elementwise import check_elementwise


def test_bnll() -> None:
    check_elementwise('type: "BNLL"', lambda x: np.logaddexp(0, x), -60, 60)
