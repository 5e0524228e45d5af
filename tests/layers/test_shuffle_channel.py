from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error


def layer(param: str) -> str:
    return f'type: "ShuffleChannel" shuffle_channel_param {{ {param} }}'


@pytest.mark.parametrize("group", [1, 2, 3, 6])
@pytest.mark.parametrize("shape", [(2, 6, 5, 7), (3, 6), (2, 6, 5)])
def test_order(group, shape):
    x = np.random.default_rng(0).standard_normal(shape)
    y = np.empty_like(x)
    columns = 6 // group
    for i in range(group):
        for j in range(columns):
            y[:, j * group + i] = x[:, i * columns + j]
    check_layer(layer(f"group: {group}"), [x], [y], rtol_peak=0)


@pytest.mark.parametrize(
    ("param", "shape", "message"),
    [
        ("group: 0", (2, 6, 5, 7), "group: it must be positive"),
        ("group: 4", (2, 6, 5, 7), "group: 6 channels are not divisible by 4"),
        ("group: 1", (6,), "has no channel axis"),
        ("", (2, 6, 5, 7), "write group: 1 if they stay"),
    ],
)
def test_refuses(param, shape, message):
    assert message in str(layer_error(layer(param), [shape]))
