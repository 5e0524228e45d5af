from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from harness import check_layer, run_layer
from refusals import refusal, resolved

from caffe2torch.errors import NetError


@pytest.mark.parametrize(("shape", "label_shape"), [((4, 5), (4,)), ((3, 5, 2), (3, 1, 1, 1))])
def test_loss(shape: tuple[int, ...], label_shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    p = rng.random(shape)
    labels = rng.integers(0, p[0].size, label_shape)
    p.reshape(shape[0], -1)[1, labels.ravel()[1]] = 0
    chosen = [
        row[label] for row, label in zip(p.reshape(shape[0], -1), labels.ravel(), strict=True)
    ]
    loss = -sum(math.log(max(value, 1e-20)) for value in chosen) / shape[0]
    check_layer('type: "MultinomialLogisticLoss"', [p, labels], [np.array(loss)])


def test_gradient_at_the_bound() -> None:
    layer = resolved('type: "MultinomialLogisticLoss" bottom: "p" bottom: "l" top: "y"')
    p = torch.tensor([[0.0, 1.0]], dtype=torch.float64, requires_grad=True)
    loss = run_layer(layer, [p, torch.tensor([0])], {}, training=True)
    loss.backward()
    np.testing.assert_allclose(p.grad, [[-1e20, 0]])


def test_refuses_labels_of_positions() -> None:
    error = refusal(
        'type: "MultinomialLogisticLoss" bottom: "p" bottom: "l" top: "y"', (2, 3, 5), (2, 5)
    )
    assert isinstance(error, NetError)
    assert "a label of shape (2, 5) must have one value for each item" in str(error)
