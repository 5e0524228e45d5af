from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error
from spatial_oracles import convolution

SHAPES = "kernel_shape { dim: 2 dim: 3 dim: 3 } pad_shape { dim: 0 dim: 1 dim: 2 }"


@pytest.mark.parametrize(
    ("more", "stride"), [("", (1, 1, 1)), ("stride_shape { dim: 2 dim: 1 dim: 3 }", (2, 1, 3))]
)
def test_each_axis_has_its_values(more: str, stride: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 4, 4, 5, 7)), rng.standard_normal((6, 2, 2, 3, 3))
    bias = rng.standard_normal(6)
    y = convolution(x, weight, bias, stride, (0, 1, 2), (1, 1, 1), 2)
    text = f'type: "NdConvolution" convolution_param {{ num_output: 6 group: 2 {SHAPES} {more} }}'
    check_layer(text, [x], [y], [weight, bias])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("", "kernel_shape: must be given"),
        (f"{SHAPES} stride: 2", "given beside it"),
        ("kernel_shape { dim: 2 dim: 2 }", "2 values for 3 spatial axes"),
    ],
)
def test_refuses(fields: str, message: str) -> None:
    text = f'type: "NdConvolution" convolution_param {{ num_output: 6 {fields} }}'
    assert message in str(layer_error(text, [(2, 4, 4, 5, 7)]))
