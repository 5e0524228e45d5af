from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error


def layer(param: str) -> str:
    return f'type: "Crop" crop_param {{ {param} }}'


@pytest.mark.parametrize(
    ("param", "shape", "reference", "place"),
    [
        ("", (2, 3, 8, 9), (5, 4, 5, 6), np.s_[:, :, :5, :6]),
        ("offset: 2", (2, 3, 8, 9), (2, 3, 5, 6), np.s_[:, :, 2:7, 2:8]),
        ("offset: 3 offset: 1", (2, 3, 8, 9), (2, 3, 5, 6), np.s_[:, :, 3:8, 1:7]),
        ("axis: 1 offset: 1", (2, 5, 8, 9), (2, 3, 5, 6), np.s_[:, 1:4, 1:6, 1:7]),
        ("axis: -1 offset: 3", (2, 5, 8, 9), (1, 1, 1, 6), np.s_[..., 3:9]),
        ("axis: 0 offset: 1 offset: 0 offset: 2", (3, 5, 7), (2, 5, 4), np.s_[1:3, :, 2:6]),
        ("axis: 1", (2, 5, 7), (3, 2, 6, 4), np.s_[:, :2, :6]),
    ],
)
def test_place(param, shape, reference, place):
    rng = np.random.default_rng(0)
    x, other = rng.standard_normal(shape), rng.standard_normal(reference)
    check_layer(layer(param), [x, other], [x[place]], rtol_peak=0)


@pytest.mark.parametrize(
    ("param", "reference", "message"),
    [
        ("offset: 1 offset: 2 offset: 3", (2, 3, 5, 6), "3 offsets for 2 cropped axes"),
        ("axis: 4", (2, 3, 5, 6), "axis 4 is out of range"),
        ("", (2, 3, 5), "differ in their axes"),
        ("", (2, 3, 9, 6), "is too small for offset (0, 0) and size (9, 6)"),
        ("offset: 4", (2, 3, 4, 6), "is too small for offset (4, 4) and size (4, 6)"),
    ],
)
def test_what_caffe_refuses(param, reference, message):
    assert message in str(layer_error(layer(param), [(2, 3, 8, 9), reference]))
