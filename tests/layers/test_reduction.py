from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from refusals import refusal

from caffe2torch.errors import NetError

OPERATIONS = {
    "SUM": lambda v: v.sum(),
    "ASUM": lambda v: abs(v).sum(),
    "SUMSQ": lambda v: (v * v).sum(),
    "MEAN": lambda v: v.sum() / v.size,
}


def oracle(x: np.ndarray, operation: str, axis: int, coeff: float) -> np.ndarray:
    y = np.empty(x.shape[:axis])
    for index in np.ndindex(y.shape):
        y[index] = coeff * OPERATIONS[operation](x[index])
    return y


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(("axis", "coeff"), [(0, 1), (1, -0.5), (2, 3), (-1, 1)])
def test_operation(operation: str, axis: int, coeff: float) -> None:
    rng = np.random.default_rng(1)
    small, large = rng.standard_normal((2, 3, 5, 7)), rng.standard_normal((4, 3, 5, 7))
    fields = f"operation: {operation} axis: {axis} coeff: {coeff}"
    check_layer(
        f'type: "Reduction" reduction_param {{ {fields} }}',
        [small],
        [oracle(small, operation, axis % 4, coeff)],
        batch_inputs=[large],
        batch_expected=[oracle(large, operation, axis % 4, coeff)],
    )


def test_the_default_sums_everything() -> None:
    x = np.random.default_rng(2).standard_normal(7)
    check_layer('type: "Reduction"', [x], [np.array(x.sum())])


def test_refuses_a_blob_without_axes() -> None:
    error = refusal('type: "Reduction" bottom: "x" top: "y"', ())
    assert isinstance(error, NetError)
    assert "axis 0 is out of range for a blob of 0 axes" in str(error)
