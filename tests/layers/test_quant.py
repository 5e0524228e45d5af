from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from harness import check_layer, layer_error
from refusals import resolved

from caffe2torch.layers._backward import Backward

CENTERS = [0.538, 1.076, 1.614]


def nearest(x: Any, below: float) -> Any:
    """The center nearest to each number above 0, the smaller one of two as near."""
    distance = np.abs(x[..., None] - np.array(CENTERS))
    return np.where(x <= 0, below, np.array(CENTERS)[distance.argmin(-1)])


@pytest.mark.parametrize(("fields", "below"), [("", 0.0), ("negative_slope: 0.25 thrs: 7", -0.25)])
def test_takes_the_nearest_center(fields: str, below: float) -> None:
    x = 1.5 * np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    x[0, 0, 0, :2] = 0, 1e3
    centers = " ".join(f"centers: {c}" for c in CENTERS)
    check_layer(f'type: "Quant" quant_param {{ {centers} {fields} }}', [x], [nearest(x, below)])


def test_half_way_the_smaller_center_is_taken() -> None:
    text = 'type: "Quant" quant_param { centers: 1 centers: 2 centers: 4 }'
    x = np.array([[-1.0, 0.0, 0.25, 1.0, 1.5, 1.75, 3.0, 3.5]])
    check_layer(text, [x], [np.array([[0, 0, 1, 1, 1, 2, 2, 4.0]])])


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("sign", lambda x: np.where(x >= 0, 1.0, -1.0)),
        ("hard_tanh", lambda x: np.minimum(np.maximum(x, -1), 1)),
        ("relu", lambda x: np.maximum(x, 0) + 0.125 * np.minimum(x, 0)),
    ],
)
def test_other_functions(function: str, expected: Any) -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 5, 7))
    x[0, 0, 0, 0] = 0
    fields = f'forward_func: "{function}" negative_slope: 0.125'
    check_layer(f'type: "Quant" quant_param {{ {fields} }}', [x], [expected(x)])


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("clip_thr: 2 negative_slope: 0.5", [0.5, 0.5, 0.5, 1, 1, 0]),
        ("", [0, 0, 0, 1, 1, 1]),
        ('clip_thr: 2 backward_func: "hard_tanh"', [0, 1, 1, 1, 1, 0]),
        ('backward_func: "hard_tanh"', [1, 1, 1, 1, 1, 1]),
    ],
)
def test_the_gradient_is_that_of_a_smooth_function(fields: str, expected: list[float]) -> None:
    layer = resolved(
        f'bottom: "x" top: "y" type: "Quant" quant_param {{ centers: 1 {fields} }}', "TRAIN"
    )
    x = torch.tensor([-3.0, -2.0, 0.0, 1.0, 2.0, 3.0])
    found = Backward([torch.full((6,), 3.0)], [x], [x], [x], [True], False)
    (diff,) = layer.gradient(None, found)
    assert diff.tolist() == [3 * e for e in expected]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("", "must be at least one number, all positive"),
        ("centers: 1 centers: 0", "must be at least one number, all positive"),
        ('forward_func: "step"', "'step' is none of hwgq, sign, hard_tanh, relu"),
        ('centers: 1 backward_func: "sign"', "'sign' is neither relu nor hard_tanh"),
    ],
)
def test_refuses(fields: str, message: str) -> None:
    assert message in str(layer_error(f'type: "Quant" quant_param {{ {fields} }}', [(2, 3)]))
