from __future__ import annotations

import numpy as np
from harness import check_layer, layer_error


def layer(fields: str) -> str:
    return f'type: "ContinuationIndicator" continuation_indicator_param {{ {fields} }}'


def test_the_first_step_is_0() -> None:
    expected = np.ones((5, 3))
    expected[0] = 0
    check_layer(layer("time_step: 5 batch_size: 3"), [], [expected], rtol_peak=0)


def test_both_sizes_are_needed() -> None:
    assert "batch_size: must be positive" in str(layer_error(layer("time_step: 5"), []))
