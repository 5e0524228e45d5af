from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from harness import check_layer, run_layer
from loss_oracles import MODES, divisor, rows, softmax
from refusals import refusal, resolved

from caffe2torch.errors import NetError, ReadError
from caffe2torch.io.schema import message_class


def oracle(
    scores: np.ndarray,
    labels: np.ndarray,
    matrix: np.ndarray,
    axis: int,
    ignore: int | None,
    mode: str,
) -> np.ndarray:
    total, valid = 0.0, 0
    for p, label in zip(rows(softmax(scores, axis), axis), labels.ravel(), strict=True):
        if label != ignore:
            total -= sum(matrix[label, k] * math.log(max(p[k], 1e-20)) for k in range(len(p)))
            valid += 1
    return np.array(total / divisor(mode, scores.shape, axis, valid))


NORMALIZATIONS = [(param, mode) for param, mode in MODES if "normalize:" not in param]
WEIGHTS = "loss_weight: 1 loss_weight: 0"
"""Of two tops: Caffe gives a loss a single weight by default."""


@pytest.mark.parametrize(
    ("shape", "axis", "label_shape"),
    [((2, 5), 1, (2,)), ((2, 5, 3, 7), 1, (2, 3, 7)), ((2, 3, 5), -1, (2, 3, 1))],
)
@pytest.mark.parametrize("ignore", [None, 2])
@pytest.mark.parametrize(("param", "mode"), [("", "VALID"), *NORMALIZATIONS])
def test_loss(
    shape: tuple[int, ...],
    axis: int,
    label_shape: tuple[int, ...],
    ignore: int | None,
    param: str,
    mode: str,
) -> None:
    rng = np.random.default_rng(1)
    scores, labels = rng.standard_normal(shape) * 20, rng.integers(0, 5, label_shape)
    matrix = rng.uniform(0, 1, (5, 5))
    more = "" if ignore is None else f"ignore_label: {ignore}"
    check_layer(
        f'type: "InfogainLoss" {WEIGHTS} infogain_loss_param {{ axis: {axis} }} '
        f"loss_param {{ {param} {more} }}",
        [scores, labels, matrix.reshape(1, 1, 5, 5)],
        [oracle(scores, labels, matrix, axis % len(shape), ignore, mode), softmax(scores, axis)],
    )


def test_matrix_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    matrix = rng.uniform(0, 1, (3, 3)).astype(np.float32)
    blob = message_class("BlobProto")(num=1, channels=1, height=3, width=3, data=matrix.ravel())
    (tmp_path / "h.binaryproto").write_bytes(blob.SerializeToString())
    monkeypatch.chdir(tmp_path)
    scores, labels = rng.standard_normal((4, 3)), np.array([0, 2, 1, 2])
    check_layer(
        'type: "InfogainLoss" infogain_loss_param { source: "h.binaryproto" }',
        [scores, labels],
        [oracle(scores, labels, matrix, 1, None, "VALID")],
    )


def test_gradient_is_that_of_the_softmax() -> None:
    layer = resolved('type: "InfogainLoss" bottom: "x" bottom: "l" bottom: "h" top: "y"')
    rng = np.random.default_rng(3)
    x = torch.tensor(rng.standard_normal((2, 3)) * 50, requires_grad=True)
    matrix = torch.tensor(rng.uniform(0, 1, (3, 3)))
    loss = run_layer(layer, [x, torch.tensor([2, 1]), matrix], {}, training=True)
    loss.backward()
    chosen = matrix[[2, 1]].numpy()
    p = softmax(x.detach().numpy(), 1)
    np.testing.assert_allclose(x.grad, (p * chosen.sum(1, keepdims=True) - chosen) / 2, atol=1e-12)


def test_refuses() -> None:
    two = 'type: "InfogainLoss" bottom: "x" bottom: "l" top: "y"'
    error = refusal(two)
    assert isinstance(error, NetError)
    assert "neither a third bottom nor a file gives the matrix H" in str(error)
    error = refusal(f'{two} infogain_loss_param {{ source: "absent.binaryproto" }}')
    assert isinstance(error, ReadError)
    assert "absent.binaryproto" in str(error)
    assert "relative to the working directory" in str(error)
    three = 'type: "InfogainLoss" bottom: "x" bottom: "l" bottom: "h" top: "y"'
    error = refusal(three, (2, 3), (2,), (3, 2))
    assert "the matrix H has 6 values; 3 classes need 3 x 3" in str(error)
    error = refusal(three, (2, 3), (2, 3), (3, 3))
    assert "labels of shape (2, 3) do not match" in str(error)
