from __future__ import annotations

import numpy as np
import pytest
import torch
from elementwise import check_elementwise
from harness import check_layer, run_layer
from refusals import resolved


@pytest.mark.parametrize(
    ("power", "scale", "shift"),
    [
        (1, 1, 0),
        (1, -2.5, 0),
        (1, 1, 0.75),
        (2, 1, 0),
        (3, 0.5, -1),
        (-1, 0.125, 2),
        (0.5, 1, 5),
        (-2.5, 0.25, 3),
    ],
)
def test_power(power: float, scale: float, shift: float) -> None:
    check_elementwise(
        f'type: "Power" power_param {{ power: {power} scale: {scale} shift: {shift} }}',
        lambda x: (shift + scale * x) ** power,
    )


@pytest.mark.parametrize(
    ("param", "value"),
    [
        ("power: 0 scale: 3 shift: 2", 1),
        ("power: 0 scale: 0", 1),
        ("power: 3 scale: 0 shift: -2", -8),
        ("power: -1 scale: 0 shift: 0", np.inf),
        ("power: 0.5 scale: 0 shift: -1", np.nan),
    ],
)
def test_what_does_not_depend_on_x(param: str, value: float) -> None:
    x = np.array([[0.0, -1.5, np.inf], [2.0, np.nan, -0.0]])
    check_layer(f'type: "Power" power_param {{ {param} }}', [x], [np.full_like(x, value)])


def test_the_gradient_of_a_constant_is_0() -> None:
    layer = resolved('type: "Power" bottom: "x" top: "y" power_param { power: 0 }')
    x = torch.tensor([0.0, 2.0, float("nan")], requires_grad=True)
    run_layer(layer, [x], {}, training=True).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0, 0]
