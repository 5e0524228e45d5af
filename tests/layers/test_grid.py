from __future__ import annotations

import numpy as np
from harness import check_layer, layer_error


def test_gives_each_pixels_place() -> None:
    rows, columns = np.indices((5, 7))
    expected = np.broadcast_to(np.stack([columns, rows]), (2, 2, 5, 7))
    check_layer('type: "Grid"', [np.full((2, 3, 5, 7), np.nan)], [expected])


def test_other_axes_are_refused() -> None:
    assert "axes" in str(layer_error('type: "Grid"', [(2, 3, 5)]))
