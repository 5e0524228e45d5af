from __future__ import annotations

import numpy as np
import pytest
from harness import build, check_layer, layer_error


def layer(fields: str) -> str:
    return f'type: "Mean" mean_param {{ {fields} }}'


@pytest.mark.parametrize(("operation", "sign"), [("SUBTRACT", -1), ("ADD", 1)])
def test_values_repeat_over_the_channels(operation: str, sign: int) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((2, 6, 5, 7)), rng.standard_normal((3, 3, 4, 5))
    text = layer(
        f"operation: {operation} value: 1.5 value: -2 value: 0.25 "
        "input_scale: 0.5 mean_scale: 3 output_scale: 2"
    )
    tops = []
    for x in (first, second):
        mean = np.resize([1.5, -2, 0.25], x.shape[1]).reshape(1, -1, 1, 1)
        tops.append(2 * (0.5 * x + sign * 3 * mean))
    check_layer(text, [first, second], tops)


def test_it_is_affine() -> None:
    node = build(layer("operation: SUBTRACT value: 2 value: 3"), [(1, 4, 2, 3)], 1).nodes[-1]
    affine = node.layer.affine({}, 4)
    assert affine is not None
    assert affine.scale.tolist() == [1] * 4
    assert affine.shift.tolist() == [-2, -3, -2, -3]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("value: 1", "operation"),
        ("operation: ADD", "mean_param.value: must be given"),
        ("operation: ADD value: 1 value: 2", "3 channels are not a multiple of 2 values"),
        ('operation: ADD file: "mean.binaryproto"', "the mean is in a file beside the net"),
    ],
)
def test_refuses(fields: str, message: str) -> None:
    assert message in str(layer_error(layer(fields), [(2, 3, 5, 7)]))
