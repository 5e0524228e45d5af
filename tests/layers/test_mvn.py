from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import check_layer, run_layer
from refusals import refusal, resolved

from caffe2torch.errors import NetError


def oracle(x: np.ndarray, across: bool, variance: bool, eps: float) -> np.ndarray:
    x = np.expand_dims(x, tuple(range(x.ndim, 4)))
    y = np.empty_like(x)
    for n in range(len(x)):
        for part in [slice(None)] if across else range(x.shape[1]):
            values = x[n, part] - x[n, part].mean()
            y[n, part] = values / (np.sqrt((values**2).mean()) + eps) if variance else values
    return y


@pytest.mark.parametrize("shape", [(7,), (2, 7), (2, 3, 5), (2, 3, 5, 7)])
@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize(("variance", "eps"), [(False, 1e-9), (True, 0.25), (True, 1e-3)])
def test_normalises(shape: tuple[int, ...], across: bool, variance: bool, eps: float) -> None:
    rng = np.random.default_rng(1)
    small, large = rng.standard_normal(shape), rng.standard_normal((4, *shape[1:]))
    flags = f"across_channels: {str(across).lower()} normalize_variance: {str(variance).lower()}"
    check_layer(
        f'type: "MVN" mvn_param {{ {flags} eps: {eps} }}',
        [small],
        [oracle(small, across, variance, eps)],
        batch_inputs=[large],
        batch_expected=[oracle(large, across, variance, eps)],
    )


def test_defaults() -> None:
    x = np.random.default_rng(2).standard_normal((2, 3, 5, 7)) * 4 + 3
    check_layer('type: "MVN"', [x], [oracle(x, False, True, 1e-9)])


def test_refuses_five_axes() -> None:
    error = refusal('type: "MVN" bottom: "x" top: "y"', (2, 3, 5, 7, 2))
    assert isinstance(error, NetError)
    assert "more than four axes" in str(error)


def test_gradient_divides_by_the_deviation_and_eps() -> None:
    rng = np.random.default_rng(3)
    x, dy = rng.standard_normal((2, 2, 3, 5, 7))
    x[1, 2] = 4  # No deviation at all.
    layer = resolved('type: "MVN" bottom: "x" top: "y" mvn_param { eps: 0.25 }')
    leaf = torch.tensor(x, requires_grad=True)
    run_layer(layer, [leaf], {}, training=True).backward(torch.tensor(dy))
    axes = (2, 3)
    y, divisor = oracle(x, False, True, 0.25), x.std(axes, keepdims=True) + 0.25
    means = dy.mean(axes, keepdims=True) + y * (y * dy).mean(axes, keepdims=True)
    np.testing.assert_allclose(leaf.grad, (dy - means) / divisor, rtol=1e-12, atol=1e-12)
