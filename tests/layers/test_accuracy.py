from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from loss_oracles import rows
from refusals import refusal

from caffe2torch.errors import NetError


def oracle(
    scores: np.ndarray, labels: np.ndarray, axis: int, top_k: int, ignore: int | None
) -> list[np.ndarray]:
    hits, counts = np.zeros(scores.shape[axis]), np.zeros(scores.shape[axis])
    for row, label in zip(rows(scores, axis), labels.ravel(), strict=True):
        if label != ignore:
            better = sum(score >= row[label] for k, score in enumerate(row) if k != label)
            hits[label] += better < top_k
            counts[label] += 1
    total = hits.sum() / counts.sum() if counts.any() else 0
    return [np.array(total), np.where(counts > 0, hits / np.maximum(counts, 1), 0)]


@pytest.mark.parametrize(
    ("shape", "axis", "label_shape"),
    [
        ((11, 5), 1, (11,)),
        ((2, 5, 3, 7), 1, (2, 1, 3, 7)),
        ((2, 3, 5), -1, (2, 3)),
        ((5, 3, 7), 0, (3, 7)),
    ],
)
@pytest.mark.parametrize("top_k", [1, 3, 5])
@pytest.mark.parametrize("ignore", [None, 2])
@pytest.mark.parametrize("tops", [1, 2])
def test_accuracy(
    shape: tuple[int, ...],
    axis: int,
    label_shape: tuple[int, ...],
    top_k: int,
    ignore: int | None,
    tops: int,
) -> None:
    rng = np.random.default_rng(1)
    scores = rng.integers(0, 4, shape)  # Few values: many ties.
    labels = rng.integers(0, 5, label_shape)
    more = "" if ignore is None else f"ignore_label: {ignore}"
    check_layer(
        f'type: "Accuracy" accuracy_param {{ axis: {axis} top_k: {top_k} {more} }}',
        [scores, labels],
        oracle(scores, labels, axis % len(shape), top_k, ignore)[:tops],
        rtol_peak=1e-7,
    )


def test_another_batch() -> None:
    rng = np.random.default_rng(2)
    small, large = ([rng.standard_normal((n, 3)), rng.integers(0, 3, n)] for n in (4, 9))
    check_layer(
        'type: "Accuracy"',
        small,
        oracle(*small, 1, 1, None),
        batch_inputs=large,
        batch_expected=oracle(*large, 1, 1, None),
    )


def test_nothing_counts() -> None:
    expected = [np.array(0.0), np.zeros(3)]
    labels = np.array([255, 255])
    param = "accuracy_param { ignore_label: 255 }"
    check_layer(f'type: "Accuracy" {param}', [np.eye(2, 3), labels], expected)


@pytest.mark.parametrize(
    ("param", "shapes", "text"),
    [
        ("accuracy_param { top_k: 4 }", [(2, 3), (2,)], "accuracy_param.top_k: 4 exceeds"),
        ("", [(2, 3), (3,)], "labels of shape (3,) do not match scores of shape (2, 3)"),
        ("accuracy_param { axis: 2 }", [(2, 3), (2,)], "accuracy_param.axis: axis 2 is out of"),
    ],
)
def test_refuses(param: str, shapes: list[tuple[int, ...]], text: str) -> None:
    error = refusal(f'type: "Accuracy" bottom: "x" bottom: "l" top: "y" {param}', *shapes)
    assert isinstance(error, NetError)
    assert text in str(error)
