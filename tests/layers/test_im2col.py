from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error
from spatial_oracles import columns


@pytest.mark.parametrize(
    ("param", "axis", "shape", "kernel", "stride", "pad", "dilation"),
    [
        ("kernel_size: 3", 1, (2, 3, 5, 7), (3, 3), (1, 1), (0, 0), (1, 1)),
        (
            "kernel_h: 3 kernel_w: 2 stride_h: 1 stride_w: 3 pad_h: 2 pad_w: 1",
            1,
            (2, 3, 5, 7),
            (3, 2),
            (1, 3),
            (2, 1),
            (1, 1),
        ),
        ("kernel_size: 2 dilation: 0 stride: 2", 1, (2, 3, 5, 7), (2, 2), (2, 2), (0, 0), (0, 0)),
        ("kernel_size: 2 dilation: 2 dilation: 3", 1, (2, 3, 5, 7), (2, 2), (1, 1), (0, 0), (2, 3)),
        ("kernel_size: 7 stride: 3", 1, (2, 3, 5, 7), (7, 7), (3, 3), (0, 0), (1, 1)),
        ("kernel_size: 3 pad: 1", 1, (2, 3, 7), (3,), (1,), (1,), (1,)),
        ("kernel_size: 2 stride: 2", 1, (2, 3, 5, 2, 7), (2,) * 3, (2,) * 3, (0,) * 3, (1,) * 3),
        ("kernel_size: 3 pad: 1 axis: 2", 2, (2, 5, 3, 7), (3,), (1,), (1,), (1,)),
        ("kernel_size: 2 axis: -3", 0, (3, 5, 7), (2, 2), (1, 1), (0, 0), (1, 1)),
    ],
)
def test_columns(param, axis, shape, kernel, stride, pad, dilation):
    x = np.random.default_rng(0).standard_normal(shape)
    folded = x.reshape(-1, *shape[axis:])
    cols = columns(folded, kernel, stride, pad, dilation)
    outputs = cols.shape[2 + len(kernel) :]
    y = cols.reshape(*shape[:axis], shape[axis] * int(np.prod(kernel)), *outputs)
    check_layer(f'type: "Im2col" convolution_param {{ {param} }}', [x], [y], rtol_peak=0)


@pytest.mark.parametrize(
    ("param", "shape", "message"),
    [
        ("", (2, 3, 5, 7), "kernel_size: 0 values for 2 spatial axes"),
        ("kernel_size: 2", (2, 3), "no spatial axis follows axis 1"),
        ("kernel_size: 6", (2, 3, 5, 7), "the top would be (0, 2)"),
    ],
)
def test_what_caffe_refuses(param, shape, message):
    error = layer_error(f'type: "Im2col" convolution_param {{ {param} }}', [shape])
    assert message in str(error)
