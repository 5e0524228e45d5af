from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from refusals import refusal, resolved

from caffe2torch.errors import NetError


@pytest.mark.parametrize(
    ("param", "shape", "expected"),
    [
        ("", (2, 3, 5, 7), (2, 105)),
        ("", (2, 3), (2, 3)),
        ("axis: 0", (2, 3, 5), (30,)),
        ("axis: 0 end_axis: 1", (2, 3, 5, 7), (6, 5, 7)),
        ("axis: 1 end_axis: 2", (2, 3, 5, 7), (2, 15, 7)),
        ("axis: -3 end_axis: -2", (2, 3, 5, 7), (2, 15, 7)),
        ("axis: 2 end_axis: 2", (2, 3, 5), (2, 3, 5)),
        ("axis: 2 end_axis: 1", (2, 3, 5), (2, 3, 1, 5)),
        ("axis: 0", (7,), (7,)),
    ],
)
def test_range(param: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    x = np.random.default_rng(1).standard_normal(shape)
    check_layer(f'type: "Flatten" flatten_param {{ {param} }}', [x], [x.reshape(expected)])


@pytest.mark.parametrize("param", ["", "axis: 0 end_axis: 1", "axis: 1 end_axis: 2"])
def test_other_batch(param: str) -> None:
    rng = np.random.default_rng(2)
    small, large = rng.standard_normal((2, 3, 5, 7)), rng.standard_normal((4, 3, 5, 7))
    shape = {"": (-1, 105), "axis: 0 end_axis: 1": (-1, 5, 7)}.get(param, (-1, 15, 7))
    check_layer(
        f'type: "Flatten" flatten_param {{ {param} }}',
        [small],
        [small.reshape(shape)],
        batch_inputs=[large],
        batch_expected=[large.reshape(shape)],
    )


def test_shares_memory() -> None:
    assert resolved('type: "Flatten" bottom: "x" top: "y"').shares_memory


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ('top: "x"', (2, 3), "it does not allow in-place computation"),
        ('top: "y"', (2,), "axis 1 is out of range for a blob of 1 axes"),
        ('top: "y" flatten_param { end_axis: 3 }', (2, 3, 5), "flatten_param.end_axis: axis 3"),
        ('top: "y" flatten_param { axis: 2 end_axis: 0 }', (2, 3, 5), "end_axis 0 is before axis"),
    ],
)
def test_refuses(fields: str, shape: tuple[int, ...], message: str) -> None:
    error = refusal(f'type: "Flatten" bottom: "x" {fields}', shape)
    assert isinstance(error, NetError)
    assert message in str(error)
