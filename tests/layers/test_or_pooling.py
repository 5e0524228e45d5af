from __future__ import annotations

import numpy as np
import torch
from harness import check_layer, layer_error

from caffe2torch.layers._runtime.elementwise import largest_of_each

FIELDS = 'type: "ORPooling" orn_param { orientations: 4 }'


def test_the_largest_orientation_is_kept() -> None:
    x = np.random.default_rng(0).standard_normal((2, 12, 5, 7))
    x[0, :4, 0, 0] = -1e6
    y = np.maximum(x.reshape(2, 3, 4, 5, 7).max(2), -999999)
    check_layer(FIELDS, [x], [y])


def test_the_gradient_goes_to_the_first_of_equal_ones() -> None:
    x = torch.tensor([[[[1.0]], [[3.0]], [[3.0]], [[-1.0]]]], requires_grad=True)
    largest_of_each(x, 4, -999999.0).sum().backward()
    assert x.grad is not None
    assert x.grad.flatten().tolist() == [0, 1, 0, 0]


def test_refuses() -> None:
    error = layer_error(FIELDS, [(2, 6, 5, 7)])
    assert "the bottom's 6 channels are not divisible by 4" in str(error)
