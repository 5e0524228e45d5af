from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from refusals import refusal

from caffe2torch.errors import NetError


def layer(param: str) -> str:
    return f'type: "DummyData" dummy_data_param {{ {param} }}'


@pytest.mark.parametrize(
    ("param", "expected"),
    [
        ("shape { dim: 2 dim: 3 }", [np.zeros((2, 3)), np.zeros((2, 3))]),
        (
            "shape { dim: 2 dim: 3 } data_filler { value: 1.5 } data_filler { value: -0.5 }",
            [np.full((2, 3), 1.5), np.full((2, 3), -0.5)],
        ),
        (
            "shape { dim: 5 } shape { } data_filler { type: 'constant' value: 7 }",
            [np.full(5, 7), np.array(7)],
        ),
        (
            "num: 2 channels: 3 channels: 1 height: 5 width: 7 data_filler { value: 0.25 }",
            [np.full((2, 3, 5, 7), 0.25), np.full((2, 1, 5, 7), 0.25)],
        ),
    ],
)
def test_constants(param: str, expected: list[np.ndarray]) -> None:
    check_layer(layer(param), [], expected)


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("", "shape: it is given 0 times for 3 tops"),
        ("shape { dim: 1 } shape { dim: 1 }", "shape: it is given 2 times for 3 tops"),
        ("shape { } data_filler { } data_filler { }", "data_filler: it is given 2 times"),
        ("num: 1 channels: 2 height: 3", "width: it is given 0 times"),
        ("num: 1 num: 2 channels: 2 height: 3 width: 5", "num: it is given 2 times"),
        ("num: 1 channels: 2 height: 3 width: 5 shape { dim: 2 }", "both shape and the old num"),
    ],
)
def test_refuses(param: str, message: str) -> None:
    error = refusal(f'{layer(param)} top: "a" top: "b" top: "c"')
    assert isinstance(error, NetError)
    assert message in str(error)
