from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import check_layer

from caffe2torch.layers._runtime.binary import binary_weight


@pytest.mark.parametrize("alpha", ["false", "true"])
@pytest.mark.parametrize(("axis", "shape"), [(1, (2, 3, 5)), (2, (2, 3, 5))])
def test_weights_count_as_signs(alpha: str, axis: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape)
    weight = rng.standard_normal((4, int(np.prod(shape[axis:]))))
    weight[0, 0] = 0
    signs = np.where(weight >= 0, 1.0, -1.0)
    if alpha == "true":
        signs *= np.abs(weight).mean(1, keepdims=True)
    bias = rng.standard_normal(4)
    y = x.reshape(*shape[:axis], -1) @ signs.T + bias
    text = f"""type: "BinaryInnerProduct" inner_product_param {{ num_output: 4 axis: {axis}
        transpose: true }} binary_inner_product_param {{ use_alpha: {alpha} }}"""
    check_layer(text, [x], [y], [weight, bias])


def test_can_be_left_off() -> None:
    rng = np.random.default_rng(1)
    x, weight = rng.standard_normal((2, 5)), rng.standard_normal((4, 5))
    text = """type: "BinaryInnerProduct" inner_product_param { num_output: 4 bias_term: false }
        binary_inner_product_param { use_binarization: false }"""
    check_layer(text, [x], [x @ weight.T], [weight])


def test_the_gradient_of_the_signs_is_that_of_the_weights() -> None:
    weight = torch.tensor([[0.5, -2.0, 0.0]], requires_grad=True)
    scaled = binary_weight(weight, True)
    assert torch.equal(scaled, torch.tensor([[1.0, -1.0, 1.0]]) * (2.5 / 3))
    (scaled * torch.tensor([[2.0, 3.0, 5.0]])).sum().backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [[2.0, 3.0, 5.0]]
