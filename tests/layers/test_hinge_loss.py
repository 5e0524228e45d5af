from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from refusals import refusal

from caffe2torch.errors import NetError


@pytest.mark.parametrize("shape", [(4, 5), (3, 5, 2), (2, 3, 5, 7)])
@pytest.mark.parametrize(("param", "power"), [("", 1), ("norm: L1", 1), ("norm: L2", 2)])
def test_loss(shape: tuple[int, ...], param: str, power: int) -> None:
    rng = np.random.default_rng(1)
    scores = rng.standard_normal(shape)
    labels = rng.integers(0, scores[0].size, shape[0])
    total = 0.0
    for row, label in zip(scores.reshape(shape[0], -1), labels, strict=True):
        for k, score in enumerate(row):
            total += max(0, 1 - (1 if k == label else -1) * score) ** power
    check_layer(
        f'type: "HingeLoss" hinge_loss_param {{ {param} }}',
        [scores, labels],
        [np.array(total / shape[0])],
    )


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        ([(2, 3), (3,)], "must have the same first size"),
        ([(2, 1, 1, 1, 3), (2,)], "more than four axes"),
    ],
)
def test_refuses(shapes: list[tuple[int, ...]], text: str) -> None:
    error = refusal('type: "HingeLoss" bottom: "a" bottom: "b" top: "y"', *shapes)
    assert isinstance(error, NetError)
    assert text in str(error)
