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
        ("base: 10 scale: -0.5 shift: 0.25", 10, -0.5, 0.25),
        ("base: 0.5 scale: 2 shift: -1", 0.5, 2, -1),
        ("shift: 1.5", np.e, 1, 1.5),
        ("base: -1 scale: 0.25", np.e, 0.25, 0),
        ("base: 1 shift: 3", 1, 1, 3),
    ],
)
def test_exp(param: str, base: float, scale: float, shift: float) -> None:
    check_elementwise(f'type: "Exp" exp_param {{ {param} }}', lambda x: base ** (shift + scale * x))


def test_an_overflowing_factor_is_infinite() -> None:
    check_elementwise('type: "Exp" exp_param { shift: 1000 }', lambda x: x * 0 + np.inf)


@pytest.mark.parametrize("base", [0, -2])
def test_refuses_a_base_that_is_not_positive(base: float) -> None:
    error = refusal(f'type: "Exp" bottom: "x" top: "y" exp_param {{ base: {base} }}')
    assert isinstance(error, NetError)
    assert f"exp_param.base: {base} is neither positive nor -1" in str(error)
