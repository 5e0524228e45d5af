from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error
from spatial_oracles import convolution


@pytest.mark.parametrize(
    ("type", "sizes", "fields", "dilation"),
    [
        ("ConvolutionND", (5, 6, 7), "kernel_size: 2 kstride: 1 kstride: 2 kstride: 3", (1, 2, 3)),
        ("ConvolutionND", (5, 6, 7), "kernel_size: 2", (1, 1, 1)),
        ("ConvolutionSK", (6, 7), "kernel_size: 2 kstride: 3", (3, 3)),
        ("ConvolutionSK", (6, 7), "kernel_size: 2 kstride_h: 2 kstride_w: 4", (2, 4)),
    ],
)
def test_kstride_is_the_dilation(type, sizes, fields, dilation) -> None:
    rng = np.random.default_rng(0)
    axes = len(sizes)
    x, weight = rng.standard_normal((2, 3, *sizes)), rng.standard_normal((4, 3, *[2] * axes))
    bias = rng.standard_normal(4)
    y = convolution(x, weight, bias, (1,) * axes, (0,) * axes, dilation)
    text = f'type: "{type}" convolution_param {{ num_output: 4 {fields} }}'
    check_layer(text, [x], [y], [weight, bias])


def test_both_words_are_refused() -> None:
    fields = "num_output: 4 kernel_size: 2 kstride: 2 dilation: 2"
    error = layer_error(f'type: "ConvolutionND" convolution_param {{ {fields} }}', [(2, 3, 6, 7)])
    assert "dilation is given beside it" in str(error)
