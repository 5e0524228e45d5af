from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import check_layer, layer_error
from refusals import resolved

from caffe2torch.layers._backward import Backward


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("fields", "base", "scale", "shift"),
    [("", np.e, 1, 0), ("base: 2 scale: -0.5 shift: 3", 2, -0.5, 3)],
)
def test_the_first_item_alone_is_seen_from_its_largest_channel(
    batch: int, fields: str, base: float, scale: float, shift: float
) -> None:
    x = np.random.default_rng(0).standard_normal((batch, 3, 5, 7))
    largest = x.max(1, keepdims=True) * (np.arange(batch) == 0)[:, None, None, None]
    expected = base ** (shift + scale * (x - largest))
    check_layer(f'type: "ExpMax" expmax_param {{ {fields} }}', [x], [expected])


def test_the_gradient_leaves_the_largest_channel_out() -> None:
    layer = resolved('bottom: "x" top: "y" type: "ExpMax" expmax_param { scale: 2 }', "TRAIN")
    y = torch.tensor([1.0, 0.5])
    (diff,) = layer.gradient(None, Backward([3 * y], [y], [y], [y], [True], False))
    assert diff.tolist() == [6, 1.5]


def test_refuses() -> None:
    error = layer_error('type: "ExpMax" expmax_param { base: -2 }', [(1, 3, 5, 7)])
    assert "-2 is neither positive nor -1" in str(error)
    assert "axes" in str(layer_error('type: "ExpMax"', [(2, 3)]))
