from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error


def test_maps_times_the_mask() -> None:
    rng = np.random.default_rng(0)
    x, mask = rng.normal(size=(2, 3, 5, 7)), rng.normal(size=(2, 1, 5, 7))
    expected = np.empty_like(x)
    for n, c in np.ndindex(2, 3):
        expected[n, c] = x[n, c] * mask[n, 0]
    check_layer('type: "MaskPooling"', [x, mask], [expected])


@pytest.mark.parametrize("mask", [(2, 3, 5, 7), (2, 1, 7, 5), (1, 1, 5, 7), (2, 5, 7)])
def test_masks_that_do_not_fit(mask: tuple[int, ...]) -> None:
    error = layer_error('type: "MaskPooling"', [(2, 3, 5, 7), mask])
    assert "does not fit a bottom of shape (2, 3, 5, 7)" in str(error)
