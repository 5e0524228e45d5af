from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error

from caffe2torch.errors import Caffe2TorchError


def layer(fields: str) -> str:
    return f'type: "InnerDistance" inner_distance_param {{ num_output: 4 {fields} }}'


@pytest.mark.parametrize("kind", ["L1", "L2"])
@pytest.mark.parametrize(("shape", "axis"), [((2, 3), 1), ((2, 3, 5, 7), 1), ((2, 3, 5), -1)])
def test_distances(kind, shape, axis):
    rng = np.random.default_rng(1)
    x = rng.normal(size=shape).astype(np.float32)
    rows = x.astype(np.float64).reshape(*shape[:axis], 1, -1)
    weight = rng.normal(size=(4, rows.shape[-1])).astype(np.float32)
    difference = rows - weight
    wanted = (difference**2 if kind == "L2" else np.abs(difference)).sum(-1)
    check_layer(layer(f'distance_type: "{kind}" axis: {axis}'), [x], [wanted], blobs=[weight])


@pytest.mark.parametrize("kind", ["L1", "L2"])
@pytest.mark.parametrize("shape", [(6, 15), (6, 3, 5)])
def test_centres_as_a_second_bottom(kind, shape):
    rng = np.random.default_rng(1)
    x, centres = (rng.normal(size=s).astype(np.float32) for s in ((2, 3, 5), shape))
    difference = x.reshape(2, 1, 15).astype(np.float64) - centres.reshape(6, 15)
    wanted = (difference**2 if kind == "L2" else np.abs(difference)).sum(-1)
    text = f'type: "InnerDistance" inner_distance_param {{ distance_type: "{kind}" }}'
    check_layer(text, [x, centres], [wanted])


def test_centres_that_do_not_fit():
    text = 'type: "InnerDistance"'
    assert "shape (6, 4) is not (N, 3)" in str(layer_error(text, ((2, 3), (6, 4))))
    text += " inner_distance_param { update_center_only: true }"
    error = layer_error(text, ((2, 3), (6, 3)))
    assert "update_center_only: true has no conversion" in str(error)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ("transpose: true", "transpose: true has no conversion"),
        ("normalize: true", "normalize: true has no conversion"),
        ('distance_type: "L3"', "'L3' is neither 'L1' nor 'L2'"),
        ("axis: 4", "axis 4 is out of range"),
    ],
)
def test_refusals(fields, text):
    error = layer_error(layer(fields), ((2, 3),))
    assert isinstance(error, Caffe2TorchError)
    assert text in str(error)
