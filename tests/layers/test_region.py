from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error


def layer(param: str) -> str:
    return f'type: "Region" region_param {{ {param} }}'


@pytest.mark.parametrize(("num", "coords", "classes"), [(3, 4, 5), (1, 2, 1), (2, 5, 3)])
def test_each_box_is_activated(num, coords, classes):
    each = coords + 1 + classes
    x = 2 * np.random.default_rng(0).standard_normal((2, num * each, 4, 7))
    y = x.copy()
    for n, b, i, j in np.ndindex(2, num, 4, 7):
        box = y[n, b * each : (b + 1) * each, i, j]
        for k in (0, 1, coords):
            box[k] = 1 / (1 + np.exp(-box[k]))
        powers = np.exp(box[coords + 1 :])
        box[coords + 1 :] = powers / powers.sum()
    check_layer(layer(f"num: {num} coords: {coords} classes: {classes}"), [x], [y])


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("num: 1 classes: 3", "coords: it must be given, 2 or more"),
        ("coords: 4 classes: 3", "num: it must be given, 1 or more"),
        ("num: 2 coords: 4 classes: 3", "should have 16 channels"),
    ],
)
def test_refusals(param, message):
    assert message in str(layer_error(layer(param), [(1, 8, 5, 7)]))
