from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import build, check_layer
from refusals import refusal, resolved

from caffe2torch.errors import NetError
from caffe2torch.lower.to_torch import to_torch


def param(dims: tuple[int, ...], rest: str = "") -> str:
    sizes = "".join(f"dim: {d} " for d in dims)
    return f'type: "Reshape" reshape_param {{ shape {{ {sizes} }} {rest} }}'


@pytest.mark.parametrize(
    ("dims", "rest", "shape", "expected"),
    [
        ((0, -1), "", (2, 3, 5, 7), (2, 105)),
        ((0, 0, -1, 5), "", (2, 3, 5, 7), (2, 3, 7, 5)),
        ((3, 10, 7), "", (2, 3, 5, 7), (3, 10, 7)),
        ((-1,), "", (2, 3, 5), (30,)),
        ((-1,), "axis: 1", (2, 3, 5), (2, 15)),
        ((3, -1), "axis: 1 num_axes: 1", (2, 6, 5, 7), (2, 3, 2, 5, 7)),
        ((-1,), "axis: 0 num_axes: 2", (2, 3, 5, 7), (6, 5, 7)),
        ((15,), "axis: -4 num_axes: 2", (2, 3, 5, 7), (2, 15, 7)),
        ((1, 1), "axis: -1", (2, 3), (2, 3, 1, 1)),
        ((1,), "axis: 1 num_axes: 0", (2, 3, 5), (2, 1, 3, 5)),
        ((1, -1), "axis: 0 num_axes: 0", (2, 3, 5), (1, 1, 2, 3, 5)),
        ((0, 1, -1), "axis: 2 num_axes: 1", (2, 3, 5, 1), (2, 3, 5, 1, 1, 1)),
        ((0, 0, -1, 0), "axis: 1 num_axes: -1", (2, 3, 5, 7, 2), (2, 3, 5, 7, 2)),
        ((), "", (1, 1), ()),
        ((1, 1), "", (), (1, 1)),
    ],
)
def test_shape(
    dims: tuple[int, ...], rest: str, shape: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    x = np.random.default_rng(1).standard_normal(shape)
    check_layer(param(dims, rest), [x], [x.reshape(expected)])


@pytest.mark.parametrize(
    ("dims", "rest", "expected"),
    [
        ((0, -1), "", (4, 105)),
        ((-1, 5, 7), "", (12, 5, 7)),
        ((7, 5), "axis: 2", (4, 3, 7, 5)),
        ((1,), "num_axes: 0", (1, 4, 3, 5, 7)),
    ],
)
def test_other_batch(dims: tuple[int, ...], rest: str, expected: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    small, large = rng.standard_normal((2, 3, 5, 7)), rng.standard_normal((4, 3, 5, 7))
    half = {4: 2, 12: 6}
    check_layer(
        param(dims, rest),
        [small],
        [small.reshape([half.get(n, n) for n in expected])],
        batch_inputs=[large],
        batch_expected=[large.reshape(expected)],
    )


def test_shares_memory() -> None:
    assert resolved(f'{param((0, -1))} bottom: "x" top: "y"').shares_memory


@pytest.mark.parametrize(
    ("dims", "rest", "message"),
    [
        ((-1, -1), "", "[-1, -1] may hold positive sizes, 0 and a single -1"),
        ((2, -2), "", "may hold positive sizes"),
        ((4, -1), "", "shape (2, 3, 5) with 30 numbers does not fit [4, -1] at axis 0"),
        ((2, 3), "", "does not fit [2, 3]"),
        ((0, 0, 0, 0), "", "a 0 copies axis 3, but the bottom has 3 axes only"),
        ((30,), "axis: 4", "axis 4 with num_axes -1 is out of range for a blob of 3 axes"),
        ((30,), "axis: -5", "axis -5 with"),
        ((30,), "axis: 2 num_axes: 2", "axis 2 with num_axes 2 is out of range"),
        ((30,), "num_axes: -2", "-2 is neither a number of axes nor -1"),
    ],
)
def test_refuses(dims: tuple[int, ...], rest: str, message: str) -> None:
    error = refusal(f'{param(dims, rest)} bottom: "x" top: "y"', (2, 3, 5))
    assert isinstance(error, NetError)
    assert message in str(error)


def test_refuses_in_place() -> None:
    error = refusal(f'{param((0, -1))} bottom: "x" top: "x"', (2, 3))
    assert isinstance(error, NetError)
    assert "does not allow in-place computation" in str(error)


def test_a_module_refuses_a_size_that_does_not_fit_by_name() -> None:
    module = to_torch(build(param((3, 10, 7)), [(2, 3, 5, 7)], 1))
    assert module(torch.zeros(1, 6, 5, 7)).shape == (3, 10, 7)
    with pytest.raises(NetError, match=r"'l' \(Reshape\).*does not fit"):
        module(torch.zeros(2, 3, 5, 6))
