from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error


@pytest.mark.parametrize(
    ("fields", "axes"),
    [
        ("", (3,)),
        ("flip_height: true", (2, 3)),
        ("flip_width: false flip_height: true", (2,)),
        ("flip_width: false", ()),
    ],
)
def test_mirrored(fields, axes):
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 7)).astype(np.float32)
    check_layer(f'type: "Flip" flip_param {{ {fields} }}', [x], [np.flip(x, axes)], rtol_peak=0)


def test_refusals():
    assert "is not (N, C, H, W)" in str(layer_error('type: "Flip"', ((2, 3, 5),)))
