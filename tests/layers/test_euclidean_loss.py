from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from refusals import refusal

from caffe2torch.errors import NetError


@pytest.mark.parametrize(
    ("shape", "other"), [((3,), (3,)), ((2, 3, 5, 7), (2, 3, 5, 7)), ((2, 3, 5), (2, 15))]
)
def test_loss(shape: tuple[int, ...], other: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    batches = []
    for extra in (0, 2):
        a = rng.standard_normal((shape[0] + extra, *shape[1:]))
        b = rng.standard_normal((other[0] + extra, *other[1:]))
        batches.append(([a, b], [np.array(((a.ravel() - b.ravel()) ** 2).sum() / len(a) / 2)]))
    check_layer(
        'type: "EuclideanLoss" loss_weight: 3',
        *batches[0],
        batch_inputs=batches[1][0],
        batch_expected=batches[1][1],
    )


@pytest.mark.parametrize(
    ("shapes", "text"),
    [
        ([(2, 3), (3, 2)], "(2, 3) and (3, 2) must have the same first size"),
        ([(2, 3), (2, 5)], "(2, 3) and (2, 5) must have as many values"),
        ([(2, 1, 1, 1, 3), (2, 3)], "more than four axes"),
        ([(), ()], "must have the same first size"),
    ],
)
def test_refuses(shapes: list[tuple[int, ...]], text: str) -> None:
    error = refusal('type: "EuclideanLoss" bottom: "a" bottom: "b" top: "y"', *shapes)
    assert isinstance(error, NetError)
    assert text in str(error)
