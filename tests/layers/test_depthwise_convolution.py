from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error
from spatial_oracles import convolution


@pytest.mark.parametrize(
    ("param", "weights", "group"),
    [
        ("num_output: 3", (3, 1), 3),
        ("num_output: 3 group: 3", (3, 1), 3),
        ("num_output: 6 group: 3", (6, 1), 3),
        ("num_output: 2 group: 1", (2, 3), 1),
    ],
)
def test_group_is_num_output_unless_given(param, weights, group):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 3, 5, 7)), rng.standard_normal((*weights, 3, 2))
    bias = rng.standard_normal(weights[0])
    y = convolution(x, weight, bias, (2, 1), (1, 0), (1, 1), group)
    window = "kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0"
    text = f'type: "DepthwiseConvolution" convolution_param {{ {param} {window} }}'
    check_layer(text, [x], [y], [weight, bias])


def test_more_outputs_than_channels_without_a_group():
    text = 'type: "DepthwiseConvolution" convolution_param { num_output: 6 kernel_size: 3 }'
    error = layer_error(text, [(2, 3, 5, 7)])
    assert "DepthwiseConvolution" in str(error)
    assert "3 channels are not divisible by 6" in str(error)
