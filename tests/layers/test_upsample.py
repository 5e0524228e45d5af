from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error
from spatial_oracles import Array, pooling, positions

from caffe2torch.errors import NetError, UnsupportedLayerError


def layer(param: str) -> str:
    return f'type: "Upsample" upsample_param {{ {param} }}'


def unpool(x: Array, mask: Array, height: int, width: int) -> Array:
    y = np.zeros((*x.shape[:2], height * width))
    for n, c, i, j in positions(x.shape):
        y[n, c, int(mask[n, c, i, j])] = x[n, c, i, j]
    return y.reshape(*x.shape[:2], height, width)


@pytest.mark.parametrize(
    ("param", "size", "kernel"),
    [
        ("", (6, 8), (2, 2)),
        ("scale: 3", (6, 9), (3, 3)),
        ("scale_h: 2 scale_w: 3", (4, 9), (2, 3)),
        ("scale: 2 pad_out_h: true pad_out_w: true", (5, 7), (2, 2)),
        ("scale: 2 pad_out_w: true", (4, 7), (2, 2)),
        ("upsample_h: 5 upsample_w: 7 scale: 9", (5, 7), (2, 2)),
    ],
)
def test_values_return_to_where_they_were_the_maximum(param, size, kernel):
    rng = np.random.default_rng(0)
    _, mask = pooling(rng.standard_normal((2, 3, *size)), kernel, kernel)
    x = rng.standard_normal(mask.shape)
    check_layer(layer(param), [x, mask], [unpool(x, mask, *size)], rtol_peak=0)


@pytest.mark.parametrize(("param", "scale"), [("", 1), ("scale: 3", 3), ("scale: 2", 2)])
@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (2, 3, 5)])
def test_nearest_without_a_mask(param, scale, shape):
    x = np.random.default_rng(1).standard_normal(shape)
    y = x.repeat(scale, -1).repeat(scale, -2)
    check_layer(layer(param), [x], [y], rtol_peak=0)


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("scale: 1", "scale: (1, 1) must be 2 or more"),
        ("scale_h: 2", "give either scale or both scale_h and scale_w"),
        ("scale: 2 scale_h: 2 scale_w: 2", "give either scale or both"),
        ("scale: 3 pad_out_h: true", "pad_out_h: it needs a scale of 2, not (3, 3)"),
        ("upsample_h: 1 upsample_w: 8", "upsample_h: (1, 8) must both be 2 or more"),
    ],
)
def test_what_caffe_refuses(param, message):
    error = layer_error(layer(param), [(2, 3, 5, 7)] * 2)
    assert isinstance(error, NetError)
    assert message in str(error)


def test_mask_of_another_shape():
    assert "differ in shape" in str(layer_error(layer(""), [(2, 3, 5, 7), (2, 3, 7, 5)]))


@pytest.mark.parametrize("field", ["scale_h", "upsample_w"])
def test_fields_of_the_other_form_are_refused(field):
    error = layer_error(layer(f"{field}: 3"), [(2, 3, 5, 7)])
    assert isinstance(error, UnsupportedLayerError)
    assert error.field == field
