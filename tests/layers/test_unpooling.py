from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error
from spatial_oracles import pooling, positions
from test_upsample import unpool


def layer(param: str) -> str:
    return f'type: "Unpooling" unpooling_param {{ {param} }}'


@pytest.mark.parametrize(
    ("param", "size"),
    [
        ("kernel_size: 2 stride: 2 unpool_size: 6", (6, 6)),
        ("kernel_h: 2 kernel_w: 3 stride_h: 2 stride_w: 2 unpool_h: 5 unpool_w: 8", (5, 8)),
    ],
)
def test_values_return_to_where_they_were_the_maximum(param, size):
    rng = np.random.default_rng(0)
    _, mask = pooling(rng.standard_normal((2, 3, *size)), (2, 2), (2, 2))
    x = rng.standard_normal(mask.shape)
    check_layer(layer(param), [x, mask], [unpool(x, mask, *size)], rtol_peak=0)


@pytest.mark.parametrize("size", [(9, 11), (6, 5), (2, 3)])
@pytest.mark.parametrize("stride", [(2, 2), (1, 3)])
def test_without_a_mask_values_go_to_the_corners_of_their_windows(size, stride):
    x = np.random.default_rng(1).standard_normal((2, 3, 4, 5))
    y = np.zeros((2, 3, *size))
    for n, c, i, j in positions(x.shape):
        y[n, c, min(i * stride[0], size[0] - 1), min(j * stride[1], size[1] - 1)] = x[n, c, i, j]
    param = f"kernel_size: 2 stride_h: {stride[0]} stride_w: {stride[1]} "
    check_layer(layer(f"{param} unpool_h: {size[0]} unpool_w: {size[1]}"), [x], [y], rtol_peak=0)


@pytest.mark.parametrize(
    ("param", "message"),
    [
        ("unpool: AVE kernel_size: 2 unpool_size: 9", "AVE adds to what the top held"),
        ("unpool_size: 9", "kernel_size: it must be positive"),
        ("kernel_size: 2", "unpool_size: it must be positive"),
        ("kernel_size: 2 unpool_size: 9 pad: 1", "the fork allows no padding"),
        ("kernel_size: 2 unpool_size: 9 unpool_h: 9", "give either it or both unpool_h and"),
    ],
)
def test_refusals(param, message):
    assert message in str(layer_error(layer(param), [(2, 3, 5, 7)]))


def test_mask_of_another_shape():
    error = layer_error(layer("kernel_size: 2 unpool_size: 9"), [(2, 3, 5, 7), (2, 3, 7, 5)])
    assert "differ in shape" in str(error)
