from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from refusals import resolved

from caffe2torch.errors import UnsupportedLayerError


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (5,)])
def test_is_minus_the_square(shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal(shape)
    check_layer('type: "NegSquare"', [x], [-(x**2)])


def test_a_training_through_it_is_refused() -> None:
    layer = resolved('bottom: "x" top: "y" type: "NegSquare"', "TRAIN")
    with pytest.raises(UnsupportedLayerError, match="keep the gradient from it"):
        layer.gradient(None, None)
