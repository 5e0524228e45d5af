"""The inputs that the tests of elementwise layers share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from harness import check_layer


def check_elementwise(
    layer_text: str,
    function: Callable[[np.ndarray], np.ndarray],
    low: float = -4,
    high: float = 4,
) -> None:
    """Check y = function(x) in 4-D, with another batch, and without axes."""
    rng = np.random.default_rng(7)
    small, large, scalar = (
        rng.uniform(low, high, shape).astype(np.float32).astype(np.float64)
        for shape in ((2, 3, 5, 7), (4, 3, 5, 7), ())
    )
    check_layer(
        layer_text,
        [small],
        [function(small)],
        batch_inputs=[large],
        batch_expected=[function(large)],
    )
    check_layer(layer_text, [scalar], [np.asarray(function(scalar))])
