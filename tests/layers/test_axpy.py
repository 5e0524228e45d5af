from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from refusals import refusal

from caffe2torch.errors import NetError

FIELDS = 'type: "Axpy" bottom: "a" bottom: "x" bottom: "z" top: "y"'


def blobs(batch: int, ones: tuple[int, ...], spatial: tuple[int, ...]) -> list[np.ndarray]:
    rng = np.random.default_rng(batch)
    shapes = [(batch, 3, *ones), (batch, 3, *spatial), (batch, 3, *spatial)]
    return [rng.standard_normal(shape) for shape in shapes]


def oracle(a: np.ndarray, x: np.ndarray, z: np.ndarray) -> np.ndarray:
    y = np.empty_like(x)
    for n, c in np.ndindex(x.shape[:2]):
        y[n, c] = a[n, c].squeeze() * x[n, c] + z[n, c]
    return y


@pytest.mark.parametrize("ones", [(), (1, 1)])
@pytest.mark.parametrize("spatial", [(5, 7), (5,), ()])
def test_axpy(ones: tuple[int, ...], spatial: tuple[int, ...]) -> None:
    small, large = blobs(2, ones, spatial), blobs(4, ones, spatial)
    check_layer(
        'type: "Axpy"',
        small,
        [oracle(*small)],
        batch_inputs=large,
        batch_expected=[oracle(*large)],
    )


def test_refuses_factors_that_are_not_one_a_channel() -> None:
    error = refusal(FIELDS, (2, 3, 5, 1), (2, 3, 5, 7), (2, 3, 5, 7))
    assert isinstance(error, NetError)
    assert "does not have one factor for each channel" in str(error)


def test_refuses_unequal_summands() -> None:
    error = refusal(FIELDS, (2, 3), (2, 3, 5, 7), (2, 3, 7, 5))
    assert isinstance(error, NetError)
    assert "(2, 3, 5, 7) and (2, 3, 7, 5); they must be equal" in str(error)
