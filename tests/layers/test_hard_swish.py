from __future__ import annotations

import numpy as np
from elementwise import check_elementwise


def test_hard_swish() -> None:
    check_elementwise('type: "HardSwish"', lambda x: x * np.clip(x + 3, 0, 6) / 6)
