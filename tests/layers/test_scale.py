from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from refusals import refusal, resolved

from caffe2torch.errors import NetError

SHAPE = (2, 3, 5, 7)


def spread(operand: np.ndarray, axis: int, num_axes: int) -> np.ndarray:
    return operand.reshape(operand.shape + (1,) * (num_axes - axis - operand.ndim))


@pytest.mark.parametrize(
    ("param", "axis", "count"),
    [
        ("", 1, 1),
        ("axis: 2", 2, 1),
        ("axis: -1", 3, 1),
        ("axis: -2 num_axes: 2", 2, 2),
        ("num_axes: 2", 1, 2),
        ("num_axes: -1", 1, 3),
        ("axis: -1 num_axes: -1", 3, 1),
        ("num_axes: 0", 1, 0),
        ("axis: 3 num_axes: 0", 3, 0),
    ],
)
@pytest.mark.parametrize("bias", [False, True])
def test_learned(param: str, axis: int, count: int, bias: bool) -> None:
    rng = np.random.default_rng(1)
    small, large = rng.standard_normal(SHAPE), rng.standard_normal((4, *SHAPE[1:]))
    shape = SHAPE[axis : axis + count]
    weight, shift = rng.standard_normal(shape), rng.standard_normal(shape) * bias

    def expected(x: np.ndarray) -> np.ndarray:
        return x * spread(weight, axis, 4) + spread(shift, axis, 4)

    check_layer(
        f'type: "Scale" scale_param {{ {param} bias_term: {str(bias).lower()} }}',
        [small],
        [expected(small)],
        blobs=[weight, shift] if bias else [weight],
        batch_inputs=[large],
        batch_expected=[expected(large)],
    )


def test_learned_over_the_batch() -> None:
    rng = np.random.default_rng(2)
    x, weight = rng.standard_normal(SHAPE), rng.standard_normal(SHAPE)
    param = "scale_param { axis: 0 num_axes: -1 }"
    check_layer(f'type: "Scale" {param}', [x], [x * weight], blobs=[weight])


@pytest.mark.parametrize(
    ("axis", "count"), [(0, 1), (0, 2), (0, 4), (1, 1), (1, 2), (-2, 1), (2, 0)]
)
@pytest.mark.parametrize("bias", [False, True])
def test_two_bottoms(axis: int, count: int, bias: bool) -> None:
    rng = np.random.default_rng(3)
    start = axis % 4
    x, operand = rng.standard_normal(SHAPE), rng.standard_normal(SHAPE[start : start + count])
    shift = rng.standard_normal(operand.shape) * bias
    check_layer(
        f'type: "Scale" scale_param {{ axis: {axis} bias_term: {str(bias).lower()} }}',
        [x, operand],
        [x * spread(operand, start, 4) + spread(shift, start, 4)],
        blobs=[shift] if bias else [],
    )


def test_two_scalars() -> None:
    check_layer('type: "Scale"', [np.array(3.0), np.array(-2.0)], [np.array(-6.0)])


@pytest.mark.parametrize(
    ("param", "fillers"),
    [
        ("bias_term: true", [1, 0]),
        ("bias_term: true filler { value: 5 } bias_filler { value: 7 }", [5, 7]),
        ("filler { }", [0]),
    ],
)
def test_fillers(param: str, fillers: list[float]) -> None:
    layer = resolved(f'type: "Scale" bottom: "x" top: "y" scale_param {{ {param} }}')
    specs = layer.blob_specs([SHAPE])
    assert [spec.filler.value for spec in specs] == fillers
    assert all(spec.given and spec.shape == (3,) for spec in specs)


@pytest.mark.parametrize(
    ("param", "text"),
    [
        ("axis: 4", "axis 4 is out of range"),
        ("num_axes: -2", "-2 must be -1 or more"),
        ("axis: 2 num_axes: 3", "3 axes from axis 2 on do not fit a bottom of shape (2, 3, 5, 7)"),
    ],
)
def test_refuses_axes(param: str, text: str) -> None:
    error = refusal(f'type: "Scale" bottom: "x" top: "y" scale_param {{ {param} }}', SHAPE)
    assert isinstance(error, NetError)
    assert text in str(error)


def test_refuses_an_operand_that_does_not_fit() -> None:
    error = refusal('type: "Scale" bottom: "x" bottom: "s" top: "y"', SHAPE, (5,))
    assert isinstance(error, NetError)
    assert "the second bottom has the shape (5,)" in str(error)
    assert "it must have (3,)" in str(error)
