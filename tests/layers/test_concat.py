from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from refusals import refusal, resolved

from caffe2torch.errors import NetError


@pytest.mark.parametrize(
    ("param", "axis"),
    [("", 1), ("axis: 2", 2), ("axis: -1", 3), ("axis: 0", 0), ("concat_dim: 3", 3)],
)
def test_axis(param: str, axis: int) -> None:
    rng = np.random.default_rng(1)
    shapes = [[2, 3, 5, 7] for _ in range(3)]
    for shape, size in zip(shapes, (2, 1, 4), strict=True):
        shape[axis] = size
    xs = [rng.standard_normal(shape) for shape in shapes]
    bounds = [0, 2, 3, 7]
    expected = np.zeros([7 if i == axis else n for i, n in enumerate((2, 3, 5, 7))])
    for x, start, stop in zip(xs, bounds, bounds[1:], strict=False):
        np.moveaxis(expected, axis, 0)[start:stop] = np.moveaxis(x, axis, 0)
    check_layer(f'type: "Concat" concat_param {{ {param} }}', xs, [expected])


def test_other_batch() -> None:
    rng = np.random.default_rng(2)
    small = [rng.standard_normal((2, c, 5)) for c in (3, 1)]
    large = [rng.standard_normal((4, c, 5)) for c in (3, 1)]
    check_layer(
        'type: "Concat"',
        small,
        [np.concatenate(small, 1)],
        batch_inputs=large,
        batch_expected=[np.concatenate(large, 1)],
    )


def test_one_bottom_is_passed_on_in_shared_memory() -> None:
    x = np.random.default_rng(3).standard_normal((2, 3))
    check_layer('type: "Concat"', [x], [x])
    assert resolved('type: "Concat" bottom: "x" top: "y"').shares_memory
    assert not resolved('type: "Concat" bottom: "x" bottom: "z" top: "y"').shares_memory


def test_refuses_shapes_that_differ_on_another_axis() -> None:
    fields = 'type: "Concat" bottom: "x" bottom: "z" top: "y"'
    error = refusal(fields, (2, 3, 5), (2, 7, 4))
    assert isinstance(error, NetError)
    assert "(2, 3, 5) and (2, 7, 4) differ elsewhere than on axis 1" in str(error)
    assert "differ elsewhere" in str(refusal(fields, (2, 3, 5), (2, 3)))


@pytest.mark.parametrize("param", ["axis: 3", "axis: -4", "concat_dim: 3"])
def test_refuses_an_axis_out_of_range(param: str) -> None:
    error = refusal(
        f'type: "Concat" bottom: "x" bottom: "z" top: "y" concat_param {{ {param} }}',
        (2, 3, 5),
        (2, 3, 5),
    )
    assert isinstance(error, NetError)
    assert f"concat_param.{param.split(':')[0]}: axis" in str(error)


def test_refuses_both_names_of_the_axis() -> None:
    error = refusal('type: "Concat" bottom: "x" top: "y" concat_param { axis: 1 concat_dim: 1 }')
    assert isinstance(error, NetError)
    assert "both axis and concat_dim" in str(error)
