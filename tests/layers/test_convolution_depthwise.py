from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error
from spatial_oracles import convolution


@pytest.mark.parametrize("group", ["", "group: 1"])
def test_each_channel_has_its_own_kernel_whatever_the_group(group):
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 3, 5, 7)), rng.standard_normal((3, 1, 3, 2))
    y = convolution(x, weight, None, (2, 1), (1, 0), (1, 2), 3)
    text = f"""type: "ConvolutionDepthwise" convolution_param {{ num_output: 3 {group}
        kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 1 pad_h: 1 pad_w: 0
        dilation: 1 dilation: 2 bias_term: false }}"""
    check_layer(text, [x], [y], [weight])


def test_other_number_of_outputs_than_channels():
    text = 'type: "ConvolutionDepthwise" convolution_param { num_output: 6 kernel_size: 3 }'
    error = layer_error(text, [(2, 3, 5, 7)])
    assert error.field == "num_output"
    assert "6 outputs of a bottom with 3 channels" in str(error)
