from __future__ import annotations

import numpy as np
from harness import check_layer, layer_error

LAYER = 'type: "Python" python_param { module: "pylayer.mask_layer" layer: "MaskLayer" }'


def test_rows_become_masks():
    x, more = (np.random.default_rng(n).normal(size=(n, 441)) for n in (2, 5))
    check_layer(
        LAYER,
        [x],
        [x.reshape(2, 1, 21, 21)],
        batch_inputs=[more],
        batch_expected=[more.reshape(5, 1, 21, 21)],
    )


def test_refusals():
    assert "is not (R, 441)" in str(layer_error(LAYER, [(2, 440)]))
    error = layer_error(f"{LAYER} phase: TRAIN", [(2, 441)])
    assert "read the net for phase TEST" in str(error)
