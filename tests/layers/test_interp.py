from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error
from spatial_oracles import Array, Sizes

from caffe2torch.errors import NetError, UnsupportedLayerError


def layer(param: str) -> str:
    return f'type: "Interp" interp_param {{ {param} }}'


def bilinear(x: Array, sizes: Sizes) -> Array:
    for axis, size in enumerate(sizes, 2):
        last = x.shape[axis] - 1
        at = np.arange(size) * (last / (size - 1) if size > 1 else 0)
        low = np.minimum(at.astype(int), last)
        high = np.minimum(low + 1, last)
        part = (at - low).reshape(-1, *[1] * (3 - axis))
        x = x.take(low, axis) * (1 - part) + x.take(high, axis) * part
    return x


@pytest.mark.parametrize(
    ("param", "sizes"),
    [
        ("height: 11 width: 4", (11, 4)),
        ("height: 1 width: 1", (1, 1)),
        ("height: 5 width: 7", (5, 7)),
        ("zoom_factor: 3", (13, 19)),
        ("shrink_factor: 2", (3, 4)),
        ("shrink_factor: 2 zoom_factor: 3", (7, 10)),
        ("shrink_factor: 2 zoom_factor: 3 height: 4 width: 9", (4, 9)),
        ("zoom_factor: 2 height: 4 width: 3", (9, 13)),
        ("zoom_factor: 2 height: 4", (9, 13)),
    ],
)
def test_output_size(param, sizes):
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 7))
    check_layer(layer(param), [x], [bilinear(x, sizes)])


@pytest.mark.parametrize(
    ("param", "sizes"), [("height: 5 width: 9", (5, 9)), ("zoom_factor: 2", (7, 11))]
)
def test_negative_pad_crops(param, sizes):
    x = np.random.default_rng(1).standard_normal((2, 3, 7, 9))
    y = bilinear(x[:, :, 1:-2, 1:-2], sizes)
    check_layer(layer(f"{param} pad_beg: -1 pad_end: -2"), [x], [y])


def test_one_pixel():
    x = np.random.default_rng(2).standard_normal((2, 3, 1, 1))
    check_layer(layer("height: 4 width: 3"), [x], [np.broadcast_to(x, (2, 3, 4, 3))])


def test_size_of_the_second_bottom():
    rng = np.random.default_rng(3)
    x, other = rng.standard_normal((2, 3, 5, 7)), rng.standard_normal((2, 4, 9, 6))
    for text in ('type: "Interp"', layer("use_blob_size: true zoom_factor: 3")):
        check_layer(text, [x, other], [bilinear(x, (9, 6))])


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("", "no output size"),
        ("use_blob_size: true zoom_factor: 2", "use_blob_size: it needs a second bottom"),
        ("height: 4", "no output size"),
        ("height: 4 width: 0", "the output size (4, 0) is not positive"),
        ("zoom_factor: 0", "zoom_factor: it must be 1 or more"),
        ("shrink_factor: -1", "shrink_factor: it must be 1 or more"),
        ("zoom_factor: 2 pad_end: 1", "pad_end: it only crops"),
        ("zoom_factor: 2 pad_beg: -3 pad_end: -2", "cropping leaves nothing"),
    ],
)
def test_what_caffe_refuses(param, message):
    error = layer_error(layer(param), [(2, 3, 5, 7)])
    assert isinstance(error, NetError)
    assert message in str(error)


def test_second_bottom_beside_a_factor_is_refused():
    error = layer_error(layer("zoom_factor: 2"), [(2, 3, 5, 7), (2, 3, 9, 13)])
    assert isinstance(error, UnsupportedLayerError)
