from __future__ import annotations

import numpy as np
import pytest
from elementwise import check_elementwise
from harness import check_layer
from refusals import resolved

from caffe2torch.errors import UnsupportedLayerError


@pytest.mark.parametrize("slope", [0, 0.1, -0.5, 2])
def test_slope(slope: float) -> None:
    check_elementwise(
        f'type: "ReLU" relu_param {{ negative_slope: {slope} }}',
        lambda x: np.maximum(x, 0) + slope * np.minimum(x, 0),
    )


def test_default() -> None:
    check_elementwise('type: "ReLU" relu_param { engine: CAFFE }', lambda x: np.maximum(x, 0))


@pytest.mark.parametrize("slope", [0, 0.25])
def test_a_second_top_is_the_mask(slope: float) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    x[0, 0, 0, 0] = 0
    y = np.maximum(x, 0) + slope * np.minimum(x, 0)
    check_layer(f'type: "ReLU" relu_param {{ negative_slope: {slope} }}', [x], [y, x > 0])


def test_a_mask_in_place_has_no_negative_slope() -> None:
    fields = 'type: "ReLU" bottom: "x" top: "x" top: "m" relu_param { negative_slope: -1 }'
    with pytest.raises(UnsupportedLayerError, match="give the top a name of its own"):
        resolved(fields)
