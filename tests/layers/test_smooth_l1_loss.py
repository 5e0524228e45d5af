from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from refusals import refusal

from caffe2torch.errors import NetError


@pytest.mark.parametrize("bottoms", [2, 3, 4])
@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5, 7)])
def test_loss(bottoms: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    inputs = list(rng.standard_normal((bottoms, *shape)))
    inside, outside = [*inputs[2:], np.ones(shape), np.ones(shape)][:2]
    total = 0.0
    for a, b, w_in, w_out in zip(
        inputs[0].ravel(), inputs[1].ravel(), inside.ravel(), outside.ravel(), strict=True
    ):
        d = abs(w_in * (a - b))
        total += w_out * (d * d / 2 if d < 1 else d - 0.5)
    check_layer('type: "SmoothL1Loss"', inputs, [np.array(total / shape[0])])


def test_refuses_other_counts() -> None:
    error = refusal('type: "SmoothL1Loss" bottom: "a" bottom: "b" top: "y"', (2, 3), (2, 5))
    assert isinstance(error, NetError)
    assert "(2, 3), (2, 5) must have as many values" in str(error)
