from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error


def layer(axis: str) -> str:
    return f'type: "Reverse" reverse_param {{ {axis} }}'


@pytest.mark.parametrize(("text", "axis"), [("", 0), ("axis: 1", 1), ("axis: 3", 3)])
def test_the_axis_runs_backwards(text: str, axis: int) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    y = np.empty_like(x)
    for i in range(x.shape[axis]):
        y[(slice(None),) * axis + (i,)] = x[(slice(None),) * axis + (x.shape[axis] - 1 - i,)]
    check_layer(layer(text), [x], [y], rtol_peak=0)


@pytest.mark.parametrize(
    ("text", "message"),
    [("axis: -1", "-1 must not be negative"), ("axis: 3", "axis 3 is out of range")],
)
def test_what_the_fork_refuses(text: str, message: str) -> None:
    assert message in str(layer_error(layer(text), [(2, 3, 5)]))
