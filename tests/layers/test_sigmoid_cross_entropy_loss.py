from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from harness import check_layer, run_layer
from loss_oracles import MODES
from refusals import refusal, resolved

from caffe2torch.errors import NetError


def oracle(x: np.ndarray, t: np.ndarray, ignore: int | None, mode: str) -> np.ndarray:
    total, valid = 0.0, 0
    for score, target in zip(x.ravel(), t.ravel(), strict=True):
        if int(target) != ignore:
            total += max(score, 0) - score * target + math.log1p(math.exp(-abs(score)))
            valid += 1
    counts = {"FULL": x.size, "VALID": valid, "BATCH_SIZE": len(x), "NONE": 1}
    return np.array(total / max(1, counts[mode]))


@pytest.mark.parametrize(("shape", "other"), [((2, 3, 5), (2, 3, 5)), ((5, 7), (5, 7, 1))])
@pytest.mark.parametrize("ignore", [None, 0, -1])
@pytest.mark.parametrize(("param", "mode"), [("", "BATCH_SIZE"), *MODES])
def test_loss(
    shape: tuple[int, ...], other: tuple[int, ...], ignore: int | None, param: str, mode: str
) -> None:
    rng = np.random.default_rng(1)
    x, t = rng.standard_normal(shape) * 5, rng.uniform(-2, 2, other)
    more = "" if ignore is None else f"ignore_label: {ignore}"
    check_layer(
        f'type: "SigmoidCrossEntropyLoss" loss_param {{ {param} {more} }}',
        [x, t],
        [oracle(x, t, ignore, mode)],
    )


def test_large_scores() -> None:
    x, t = np.array([[200.0, -200.0]]), np.array([[0.0, 1.0]])
    check_layer('type: "SigmoidCrossEntropyLoss"', [x, t], [np.array(400.0)])


def test_gradient_is_that_of_the_sigmoid_also_at_0() -> None:
    layer = resolved('type: "SigmoidCrossEntropyLoss" bottom: "x" bottom: "t" top: "y"')
    x = torch.tensor([[0.0, 0.0, 2.0]], requires_grad=True)
    run_layer(layer, [x, torch.tensor([[0.0, 1.0, 1.0]])], {}, training=True).backward()
    np.testing.assert_allclose(x.grad, [[0.5, -0.5, 1 / (1 + math.exp(-2)) - 1]], rtol=1e-6)


def test_refuses_other_counts() -> None:
    error = refusal(
        'type: "SigmoidCrossEntropyLoss" bottom: "x" bottom: "t" top: "y"', (2, 3), (2, 5)
    )
    assert isinstance(error, NetError)
    assert "(2, 3) and (2, 5) must have as many values" in str(error)
