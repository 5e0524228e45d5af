from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error


@pytest.mark.parametrize("shape", [(2, 3, 7), (2, 3, 1, 7)])
def test_a_row_becomes_a_sequence(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape)
    y = np.moveaxis(x.reshape(2, 3, 7), 2, 0)
    cont = np.ones((7, 2))
    cont[0] = 0
    check_layer('type: "Convert"', [x], [y, cont])
    check_layer('type: "Convert"', [x], [y])


def test_several_rows_are_refused() -> None:
    assert "is not (N, C, W)" in str(layer_error('type: "Convert"', [(2, 3, 5, 7)]))
