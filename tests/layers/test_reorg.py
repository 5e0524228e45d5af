from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error
from spatial_oracles import Array


def layer(param: str) -> str:
    return f'type: "Reorg" reorg_param {{ {param} }}'


def reorg(x: Array, stride: int, reverse: bool) -> Array:
    """Darknet's loop over flat memory, whose sizes are always those of the bottom."""
    batch, channels, height, width = x.shape
    out_channels = channels // stride**2
    y = np.empty(x.size)
    source = x.reshape(-1)
    for b, k, j, i in np.ndindex(*x.shape):
        plain = i + width * (j + height * (k + channels * b))
        offset, c = divmod(k, out_channels)
        row, column = j * stride + offset // stride, i * stride + offset % stride
        spread = column + width * stride * (row + height * stride * (c + out_channels * b))
        if reverse:
            y[spread] = source[plain]
        else:
            y[plain] = source[spread]
    if reverse:
        return y.reshape(batch, out_channels, height * stride, width * stride)
    return y.reshape(batch, channels * stride**2, height // stride, width // stride)


@pytest.mark.parametrize(
    ("param", "stride", "shape"),
    [("", 2, (2, 8, 4, 6)), ("stride: 3", 3, (2, 9, 3, 6)), ("stride: 1", 1, (2, 3, 5, 7))],
)
@pytest.mark.parametrize("reverse", [False, True])
def test_memory_order(param, stride, shape, reverse):
    x = np.random.default_rng(0).standard_normal(shape)
    text = layer(f"{param} reverse: {str(reverse).lower()}")
    check_layer(text, [x], [reorg(x, stride, reverse)], rtol_peak=0)


@pytest.mark.parametrize(
    ("param", "shape", "message"),
    [
        ("stride: 0", (2, 8, 4, 6), "stride: it must be positive"),
        ("", (2, 6, 4, 6), "6 channels are not divisible by 4"),
        ("", (2, 8, 5, 6), "height 5 and width 6 are not divisible by 2"),
        ("", (2, 8, 4), "bottom must have 4 axes"),
    ],
)
def test_what_caffe_refuses(param, shape, message):
    assert message in str(layer_error(layer(param), [shape]))
