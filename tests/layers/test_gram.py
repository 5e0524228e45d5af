from __future__ import annotations

import numpy as np
from harness import check_layer, layer_error


def test_products_of_channels() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    y = np.einsum("nihw,njhw->nij", x, x) / (3 * 5 * 7)
    check_layer('type: "Gram"', [x], [y[..., None]])


def test_other_axes_are_refused() -> None:
    assert "axes" in str(layer_error('type: "Gram"', [(2, 3)]))
