from __future__ import annotations

from math import floor

import numpy as np
import pytest
from harness import check_layer, layer_error


def layer(param: str) -> str:
    return (
        'type: "DeformableConvolution" '
        f"deformable_convolution_param {{ num_output: 6 kernel_size: 3 {param} }}"
    )


def read(image, row, column):
    """The kernel of the fork: bilinear, clamped to the last row and column, 0 outside."""
    height, width = image.shape
    if not (0 <= row < height and 0 <= column < width):
        return 0.0
    top, left = floor(row), floor(column)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    down, along = row - top, column - left
    above = (1 - along) * image[top, left] + along * image[top, right]
    below = (1 - along) * image[bottom, left] + along * image[bottom, right]
    return (1 - down) * above + down * below


def oracle(x, offset, weight, bias, pad, dilation, groups, offset_groups):
    batch, channels, height, width = x.shape
    outputs, per_group, taps_h, taps_w = weight.shape
    moves = offset.reshape(batch, offset_groups, taps_h, taps_w, 2, height, width)
    y = np.zeros((batch, outputs, height, width)) + bias[:, None, None]
    for n, c, h, w, i, j in np.ndindex(batch, channels, height, width, taps_h, taps_w):
        move = moves[n, c // (channels // offset_groups), i, j, :, h, w]
        value = read(x[n, c], h - pad + i * dilation + move[0], w - pad + j * dilation + move[1])
        own = slice(
            c // per_group * (outputs // groups), (c // per_group + 1) * (outputs // groups)
        )
        y[n, own, h, w] += weight[own, c % per_group, i, j] * value
    return y


@pytest.mark.parametrize(
    ("param", "groups", "offset_groups", "pad", "dilation", "bias"),
    [
        ("pad: 1", 1, 4, 1, 1, True),
        ("pad: 1 group: 2 deformable_group: 1 bias_term: false", 2, 1, 1, 1, False),
        ("pad: 2 dilation: 2 deformable_group: 2 engine: CAFFE", 1, 2, 2, 2, True),
    ],
)
def test_moved_taps(param, groups, offset_groups, pad, dilation, bias):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 4, 5, 7))
    offset = rng.standard_normal((2, 18 * offset_groups, 5, 7)) * 2
    offset[0, :2] = 0.5  # In the last row and column, and just outside.
    weight = rng.standard_normal((6, 4 // groups, 3, 3))
    shift = rng.standard_normal(6) if bias else np.zeros(6)
    blobs = [weight, shift] if bias else [weight]
    y = oracle(x, offset, weight, shift, pad, dilation, groups, offset_groups)
    check_layer(layer(param), [x, offset], [y], blobs=blobs)


def test_refusals():
    x, offset = (1, 4, 5, 7), (1, 72, 5, 7)
    assert "should have the shape (1, 72, 5, 7)" in str(layer_error(layer(""), [x, (1, 18, 5, 7)]))
    assert "offsets of other places" in str(layer_error(layer("pad: 1 stride: 2"), [x, offset]))
    assert "not divisible by 4" in str(layer_error(layer(""), [(1, 3, 5, 7), offset]))
    assert "deformable_group: it must" in str(layer_error(layer("deformable_group: 0"), [x, x]))
    assert "another axis than 1" in str(layer_error(layer("axis: 2"), [x, x]))
