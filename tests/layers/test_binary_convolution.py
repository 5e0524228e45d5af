from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import check_layer, run_layer
from refusals import resolved
from spatial_oracles import convolution

FIELDS = 'type: "BinaryConvolution" convolution_param { num_output: 4 kernel_size: 3 pad: 1'


@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("group", [1, 2])
def test_weights_count_as_signs(alpha: bool, group: int) -> None:
    rng = np.random.default_rng(0)
    x, weight = rng.standard_normal((2, 6, 5, 7)), rng.standard_normal((4, 6 // group, 3, 3))
    weight[0, 0, 0, 0] = 0
    signs = np.where(weight >= 0, 1.0, -1.0)
    if alpha:
        signs *= np.abs(weight).mean((1, 2, 3))[:, None, None, None]
    bias = rng.standard_normal(4)
    y = convolution(x, signs, bias, (2, 2), (1, 1), (1, 1), group)
    text = f"{FIELDS} stride: 2 group: {group} }} binary_convolution_param {{ use_alpha: {alpha} }}"
    check_layer(text.replace("True", "true").replace("False", "false"), [x], [y], [weight, bias])


def test_of_four_spatial_axes_and_other_axis() -> None:
    rng = np.random.default_rng(1)
    x, weight = rng.standard_normal((2, 3, 4, 5)), rng.standard_normal((4, 3, 1))
    y = np.einsum("ncpq,oc->nopq", x, np.where(weight[..., 0] >= 0, 1.0, -1.0))
    text = """type: "BinaryConvolution" convolution_param { num_output: 4 kernel_size: 1
        bias_term: false axis: 2 }"""
    check_layer(text, [x.transpose(0, 2, 1, 3)], [y.transpose(0, 2, 1, 3)], [weight])


def test_can_be_left_off() -> None:
    rng = np.random.default_rng(2)
    x, weight = rng.standard_normal((2, 3, 5, 7)), rng.standard_normal((4, 3, 3, 3))
    y = convolution(x, weight, None, (1, 1), (1, 1), (1, 1), 1)
    off = "binary_convolution_param { use_binarization: false use_alpha: true }"
    check_layer(f"{FIELDS} bias_term: false }} {off}", [x], [y], [weight])


def test_the_gradient_of_the_signs_is_that_of_the_weights() -> None:
    rng = np.random.default_rng(3)
    text = f'bottom: "x" top: "y" {FIELDS} bias_term: false }} binary_convolution_param'
    layer = resolved(f"{text} {{ use_alpha: true }}", "TRAIN")
    plain = resolved(f"{text} {{ use_binarization: false }}", "TRAIN")
    x, weight = rng.standard_normal((2, 3, 5, 7)), rng.standard_normal((4, 3, 3, 3))
    signs = np.sign(weight) * np.abs(weight).mean((1, 2, 3), keepdims=True)
    gradients = []
    for of, array in ((layer, weight), (plain, signs)):
        image, learned = torch.from_numpy(x).requires_grad_(), torch.from_numpy(array)
        params = {"weight": learned}
        y = run_layer(of, [image], params, training=True)
        (y * torch.arange(y.numel(), dtype=y.dtype).view_as(y)).sum().backward()
        gradients.append(image.grad)
    torch.testing.assert_close(*gradients)
