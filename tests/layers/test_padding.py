from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error


def layer(begin: int, end: int) -> str:
    return f'type: "Padding" padding_param {{ pad_beg: {begin} pad_end: {end} }}'


@pytest.mark.parametrize(("begin", "end"), [(0, 0), (2, 1), (0, 3), (-1, -2), (-2, 0), (0, -1)])
def test_zeros_or_cuts(begin, end):
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    y = np.zeros((2, 3, 5 + begin + end, 7 + begin + end))
    for n, c, h, w in np.ndindex(*x.shape):
        if 0 <= h + begin < y.shape[2] and 0 <= w + begin < y.shape[3]:
            y[n, c, h + begin, w + begin] = x[n, c, h, w]
    check_layer(layer(begin, end), [x], [y], rtol_peak=0)


def test_refusals():
    assert "must both pad, or both cut" in str(layer_error(layer(1, -1), [(1, 2, 3, 5)]))
    assert "nothing is left of a bottom" in str(layer_error(layer(-1, -2), [(1, 2, 3, 5)]))
