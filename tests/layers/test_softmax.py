from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from refusals import refusal

from caffe2torch.errors import NetError


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


@pytest.mark.parametrize(
    ("param", "axis", "shape"),
    [
        ("", 1, (2, 3, 5, 7)),
        ("", 1, (2, 7)),
        ("axis: 0", 0, (5, 3)),
        ("axis: 2", 2, (2, 3, 5, 7)),
        ("axis: -1", 3, (2, 3, 5, 7)),
        ("axis: 0", 0, (7,)),
    ],
)
def test_axis(param: str, axis: int, shape: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).standard_normal(shape) * 3
    check_layer(f'type: "Softmax" softmax_param {{ {param} }}', [x], [softmax(x, axis)])


def test_large_numbers_and_another_batch() -> None:
    rng = np.random.default_rng(2)
    small, large = rng.uniform(-500, 500, (2, 5, 3)), rng.uniform(-500, 500, (4, 5, 3))
    check_layer(
        'type: "Softmax"',
        [small],
        [softmax(np.float32(small).astype(float), 1)],
        batch_inputs=[large],
        batch_expected=[softmax(np.float32(large).astype(float), 1)],
    )


def test_refuses_an_axis_out_of_range() -> None:
    error = refusal('type: "Softmax" bottom: "x" top: "y"', (5,))
    assert isinstance(error, NetError)
    assert "softmax_param.axis: axis 1 is out of range for a blob of 1 axes" in str(error)
