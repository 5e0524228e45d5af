from __future__ import annotations

import numpy as np
from harness import check_layer, layer_error

LAYER = (
    'type: "Python" python_param { module: "ds2_cont_filler_layer" layer: "DS2ContFillerLayer" }'
)


def test_the_first_stream_is_0() -> None:
    expected = np.ones((5, 3))
    expected[:, 0] = 0
    check_layer(LAYER, [np.zeros((5, 3, 2))], [expected], rtol_peak=0)
    assert "must have the axes (T, N, ..)" in str(layer_error(LAYER, [(5,)]))
