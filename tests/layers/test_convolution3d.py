from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import check_layer, layer_error
from spatial_oracles import convolution

FIELDS = "num_output: 4 kernel_size: 3 kernel_depth: 2 stride: 2 temporal_pad: 1 pad: 1"


def inputs() -> list[Any]:
    rng = np.random.default_rng(0)
    shapes = [(2, 3, 4, 5, 7), (4, 3, 2, 3, 3), (4,)]
    return [rng.standard_normal(shape) for shape in shapes]


@pytest.mark.parametrize("field", ["convolution3d_param", "convolution_param"])
def test_time_has_a_size_of_its_own(field: str) -> None:
    x, weight, bias = inputs()
    y = convolution(x, weight, bias, (1, 2, 2), (1, 1, 1), (1, 1, 1))
    text = f'type: "Convolution3D" {field} {{ {FIELDS} filter_group: 2 group: 7 }}'
    check_layer(text, [x], [y], [weight, bias.reshape(1, 1, 1, 1, 4)])


def test_without_bias_and_with_a_temporal_stride() -> None:
    x, weight, _ = inputs()
    y = convolution(x, weight, None, (2, 1, 1), (0, 0, 0), (1, 1, 1))
    fields = "num_output: 4 kernel_size: 3 kernel_depth: 2 temporal_stride: 2 bias_term: false"
    check_layer(f'type: "Convolution3D" convolution3d_param {{ {fields} }}', [x], [y], [weight])


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ("num_output: 4 kernel_size: 3", (2, 3, 4, 5, 7), "kernel_depth: must be given"),
        (FIELDS, (2, 3, 5, 7), "must have 5 axes"),
        (FIELDS + " filter_group: 3", (2, 3, 4, 5, 7), "is not divisible by 3"),
        (FIELDS + " kernel_h: 3", (2, 3, 4, 5, 7), "kernel_h"),
    ],
)
def test_refuses(fields: str, shape: tuple[int, ...], message: str) -> None:
    text = f'type: "Convolution3D" convolution3d_param {{ {fields} }}'
    assert message in str(layer_error(text, [shape]))
