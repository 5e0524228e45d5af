from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from harness import check_layer, run_layer
from loss_oracles import MODES, divisor, rows, softmax
from refusals import refusal, resolved

from caffe2torch.errors import NetError
from caffe2torch.layers._base import Role

FLT_MIN = 1.17549435e-38


def oracle(
    scores: np.ndarray, labels: np.ndarray, axis: int, ignore: int | None, mode: str
) -> np.ndarray:
    total, valid = 0.0, 0
    for p, label in zip(rows(softmax(scores, axis), axis), labels.ravel(), strict=True):
        if label != ignore:
            total -= math.log(max(p[label], FLT_MIN))
            valid += 1
    return np.array(total / divisor(mode, scores.shape, axis, valid))


@pytest.mark.parametrize(
    ("shape", "axis", "label_shape"),
    [
        ((2, 5), 1, (2,)),
        ((2, 5, 3, 7), 1, (2, 1, 3, 7)),
        ((2, 3, 5), -1, (2, 3)),
        ((2, 3, 5, 2), 2, (2, 6)),
        ((5, 10), 0, (5, 2)),
    ],
)
@pytest.mark.parametrize("ignore", [None, 2])
@pytest.mark.parametrize(("param", "mode"), [("", "VALID"), *MODES])
def test_loss(
    shape: tuple[int, ...],
    axis: int,
    label_shape: tuple[int, ...],
    ignore: int | None,
    param: str,
    mode: str,
) -> None:
    rng = np.random.default_rng(1)
    scores, labels = rng.standard_normal(shape) * 3, rng.integers(0, 5, label_shape)
    more = "" if ignore is None else f"ignore_label: {ignore}"
    check_layer(
        f'type: "SoftmaxWithLoss" softmax_param {{ axis: {axis} }} loss_param {{ {param} {more} }}',
        [scores, labels],
        [oracle(scores, labels, axis % len(shape), ignore, mode)],
    )


def test_another_batch() -> None:
    rng = np.random.default_rng(2)
    small, large = ([rng.standard_normal((n, 5, 3)), rng.integers(0, 5, (n, 3))] for n in (2, 4))
    expected = [[oracle(*batch, 1, 3, "BATCH_SIZE")] for batch in (small, large)]
    check_layer(
        'type: "SoftmaxWithLoss" loss_param { normalize: false ignore_label: 3 }',
        small,
        expected[0],
        batch_inputs=large,
        batch_expected=expected[1],
    )


def test_nothing_counts() -> None:
    labels = np.full((2,), -1)
    param = "loss_param { ignore_label: -1 }"
    check_layer(f'type: "SoftmaxWithLoss" {param}', [np.eye(2, 3), labels], [np.array(0.0)])


def test_loss_is_bounded_and_its_gradient_is_not() -> None:
    scores = np.array([[0.0, 200.0], [150.0, 0.0]])
    labels = np.array([0, 1])
    bound = -math.log(FLT_MIN)
    check_layer('type: "SoftmaxWithLoss"', [scores, labels], [np.array(bound)])
    layer = resolved('type: "SoftmaxWithLoss" bottom: "x" bottom: "l" top: "y"')
    x = torch.tensor(scores, dtype=torch.float32, requires_grad=True)
    loss = run_layer(layer, [x, torch.tensor(labels)], {}, training=True)
    loss.backward()
    np.testing.assert_allclose(x.grad, [[-0.5, 0.5], [0.5, -0.5]])


@pytest.mark.parametrize("weights", ["", "loss_weight: 1", "loss_weight: 1 loss_weight: 0"])
def test_refuses_a_second_top(weights: str) -> None:
    error = refusal(f'type: "SoftmaxWithLoss" bottom: "x" bottom: "l" top: "y" top: "p" {weights}')
    assert isinstance(error, NetError)
    assert "2 tops" in str(error)


def test_without_a_top_it_has_no_output() -> None:
    layer = resolved('type: "SoftmaxWithLoss" bottom: "x" bottom: "l"')
    assert layer.role is Role.LOSS
    assert list(layer.infer_shapes([(2, 5), (2,)])) == []
    assert list(run_layer(layer, [torch.zeros(2, 5), torch.zeros(2)], {}, training=False)) == []


@pytest.mark.parametrize(
    ("param", "shapes", "text"),
    [
        ("", [(2, 5), (3,)], "(2, 5) and (3,) must have the same first size"),
        ("", [(2, 5, 3), (2, 5)], "labels of shape (2, 5) do not match scores of shape (2, 5, 3)"),
        ("softmax_param { axis: 2 }", [(2, 5), (2,)], "softmax_param.axis: axis 2 is out of range"),
    ],
)
def test_refuses(param: str, shapes: list[tuple[int, ...]], text: str) -> None:
    error = refusal(f'type: "SoftmaxWithLoss" bottom: "x" bottom: "l" top: "y" {param}', *shapes)
    assert isinstance(error, NetError)
    assert text in str(error)
