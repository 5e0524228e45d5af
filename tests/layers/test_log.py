from __future__ import annotations

import numpy as np
import pytest
from elementwise import check_elementwise
from refusals import refusal

from caffe2torch.errors import NetError


@pytest.mark.parametrize(
    ("param", "base", "scale", "shift"),
    [
        ("", np.e, 1, 0),
        ("base: 2", 2, 1, 0),
        ("base: 10 scale: 0.5 shift: 2", 10, 0.5, 2),
        ("base: 0.5 scale: -1 shift: 7", 0.5, -1, 7),
        ("base: -1 shift: 0.5", np.e, 1, 0.5),
    ],
)
def test_log(param: str, base: float, scale: float, shift: float) -> None:
    check_elementwise(
        f'type: "Log" log_param {{ {param} }}',
        lambda x: np.log(shift + scale * x) / np.log(base),
        low=0.5,
        high=6,
    )


@pytest.mark.parametrize(
    ("base", "message"),
    [(0, "0 is neither positive"), (-3, "-3 is neither positive"), (1, "no logarithm to the base")],
)
def test_refuses_a_base(base: float, message: str) -> None:
    error = refusal(f'type: "Log" bottom: "x" top: "y" log_param {{ base: {base} }}')
    assert isinstance(error, NetError)
    assert message in str(error)
