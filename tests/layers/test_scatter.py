from __future__ import annotations

import numpy as np
from harness import check_layer, layer_error


def test_one_process_has_all_items() -> None:
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((2, 3, 5, 7)), rng.standard_normal((2, 1))]
    more = [rng.standard_normal((5, 3, 5, 7)), rng.standard_normal((5, 1))]
    check_layer('type: "Scatter"', inputs, inputs, batch_inputs=more, batch_expected=more)
    check_layer('type: "Scatter"', inputs[:1], inputs[:1])


def test_a_top_for_each_bottom() -> None:
    assert "tops" in str(layer_error('type: "Scatter"', [(2, 3), (2, 1)]))
