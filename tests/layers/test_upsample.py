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


@pytest.mark.parametrize(
    ("param", "scale"),
    [("stride: 2", (2, 2)), ("scale: 1 stride: 3", (3, 3)), ("stride_h: 2 stride_w: 3", (2, 3))],
)
def test_stride_of_hisilicon_repeats_pixels(param, scale):
    x = np.random.default_rng(1).standard_normal((2, 3, 5, 7))
    check_layer(layer(param), [x], [x.repeat(scale[0], -2).repeat(scale[1], -1)], rtol_peak=0)


@pytest.mark.parametrize("param", ["stride: 2 scale: 2", "stride_h: 2"])
def test_stride_that_is_unclear_is_refused(param):
    error = layer_error(layer(param), [(2, 3, 5, 7)])
    assert isinstance(error, UnsupportedLayerError)
    assert "give stride, or stride_h and stride_w, with scale 1" in str(error)


def resized(x, size):
    """The two loops of lyxok1/Tiny-DSOD."""
    y = np.zeros((*x.shape[:2], *size))
    for i, j in np.ndindex(*size):
        taps = []
        for p, n, new in zip((i, j), x.shape[2:], size, strict=True):
            at = (p + 1) / (new / n) - 1
            low = 1 - (at - int(at))
            high = 0 if int(at) + 1 > n - 1 else 1 - low
            taps.append(((max(int(at), 0), low), (min(int(at) + 1, n - 1), high)))
        for row, row_weight in taps[0]:
            for column, column_weight in taps[1]:
                y[:, :, i, j] += row_weight * column_weight * x[:, :, row, column]
    return y


@pytest.mark.parametrize("size", [(10, 14), (8, 7), (5, 20)])
def test_second_bottom_is_resized_to_the_first(size):
    rng = np.random.default_rng(2)
    large, x = rng.standard_normal((2, 3, *size)), rng.standard_normal((2, 3, 5, 7))
    check_layer('type: "Upsample"', [large, x], [resized(x, size)])
