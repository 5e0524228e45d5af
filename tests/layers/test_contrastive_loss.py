from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from harness import check_layer, run_layer
from refusals import refusal, resolved

from caffe2torch.errors import NetError


@pytest.mark.parametrize("label_shape", [(5,), (5, 1), (5, 1, 1, 1)])
@pytest.mark.parametrize("margin", [1, 2.5])
@pytest.mark.parametrize("legacy", [False, True])
def test_loss(label_shape: tuple[int, ...], margin: float, legacy: bool) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((2, 5, 3))
    y = np.array([1, 0, 0.5, 0, 2]).reshape(label_shape)
    total = 0.0
    for left, right, alike in zip(a, b, y.ravel(), strict=True):
        square = ((left - right) ** 2).sum()
        if int(alike):
            total += square
        elif legacy:
            total += max(margin - square, 0)
        else:
            total += max(margin - math.sqrt(square), 0) ** 2
    check_layer(
        'type: "ContrastiveLoss" contrastive_loss_param '
        f"{{ margin: {margin} legacy_version: {str(legacy).lower()} }}",
        [a, b, y],
        [np.array(total / 10)],
    )


def test_gradient_of_equal_items_is_finite() -> None:
    layer = resolved('type: "ContrastiveLoss" bottom: "a" bottom: "b" bottom: "y" top: "l"')
    a = torch.tensor([[0.0, 0.0], [0.3, 0.4]], dtype=torch.float64, requires_grad=True)
    loss = run_layer(layer, [a, torch.zeros_like(a), torch.zeros(2)], {}, training=True)
    loss.backward()
    slope = -(1 - 0.5) / (0.5 + 1e-4) / 2
    np.testing.assert_allclose(a.grad, [[0, 0], [0.3 * slope, 0.4 * slope]])


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        ([(2, 3, 5), (2, 3, 5), (2,)], "a bottom of shape (2, 3, 5) must be (N, C)"),
        ([(2, 3), (2, 5), (2,)], "(2, 3) and (2, 5) must have as many channels"),
        ([(2, 3), (2, 3), (2, 3)], "y of shape (2, 3) must have one value for each item"),
        ([(2, 3), (2, 3), (5,)], "y of shape (5,) must have 2 values"),
    ],
)
def test_refuses(shapes: list[tuple[int, ...]], text: str) -> None:
    error = refusal('type: "ContrastiveLoss" bottom: "a" bottom: "b" bottom: "y" top: "l"', *shapes)
    assert isinstance(error, NetError)
    assert text in str(error)
