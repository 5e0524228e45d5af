from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error


def layer(*dims: int) -> str:
    fields = " ".join(f"dim: {d}" for d in dims)
    return f'type: "Transpose" transpose_param {{ {fields} }}'


@pytest.mark.parametrize("dims", [(3, 2, 0, 1), (0, 1, 2, 3), (1, 3, 0, 2)])
def test_top_axis_i_is_bottom_axis_dim_i(dims: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    check_layer(layer(*dims), [x], [np.transpose(x, dims)], rtol_peak=0)


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ((1, 1, 0), "[1, 1, 0] must name each axis from 0 to 2 once"),
        ((0, 1, 3), "[0, 1, 3] must name each axis"),
        ((1, 0), "2 axes are named, but the bottom's shape is (2, 3, 5)"),
    ],
)
def test_what_the_fork_refuses(dims: tuple[int, ...], message: str) -> None:
    assert message in str(layer_error(layer(*dims), [(2, 3, 5)]))
