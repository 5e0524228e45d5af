from __future__ import annotations

import numpy as np
import pytest
import torch
from harness import check_layer, layer_error
from refusals import resolved

from caffe2torch.layers._backward import Backward
from caffe2torch.layers._runtime.elementwise import spatial_softmax

FIELDS = 'type: "SpatialSoftmax" spatial_softmax_param { engine: CAFFE temperature: 0.5 }'


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (3, 5, 7), (5, 7)])
@pytest.mark.parametrize(("fields", "temperature"), [('type: "SpatialSoftmax"', 1), (FIELDS, 0.5)])
def test_pixels_of_each_map_sum_to_1(
    shape: tuple[int, ...], fields: str, temperature: float
) -> None:
    x = np.random.default_rng(0).standard_normal(shape)
    y = np.exp(x / temperature)
    check_layer(fields, [x], [y / y.sum((-2, -1), keepdims=True)])


def test_the_gradient_is_that_of_the_formula() -> None:
    layer = resolved(f'bottom: "x" top: "y" {FIELDS}', "TRAIN")
    rng = np.random.default_rng(1)
    x = torch.from_numpy(rng.standard_normal((2, 3, 4, 5))).requires_grad_()
    diff = torch.from_numpy(rng.standard_normal((2, 3, 4, 5)))
    y = spatial_softmax(x, 0.5)
    y.backward(diff)
    with torch.no_grad():
        (found,) = layer.gradient(None, Backward([diff], [y], [y], [y], [True], False))
    torch.testing.assert_close(found, x.grad)


def test_refuses() -> None:
    assert "must not be 0" in str(layer_error(FIELDS.replace("0.5", "0"), [(2, 3, 5, 7)]))
    assert "no maps of two pixels" in str(layer_error(FIELDS, [(2, 3, 1, 1)]))
