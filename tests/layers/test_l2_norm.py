from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error


def layer(param: str = "") -> str:
    return f'type: "L2Norm" {param}'


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 1), (2, 5, 1, 1)])
@pytest.mark.parametrize("eps", [None, 0.5])
def test_length_one(shape, eps):
    x = np.random.default_rng(0).standard_normal(shape)
    x[1] = 0
    norm = np.sqrt((x**2).sum(1, keepdims=True)) + (1e-8 if eps is None else eps)
    param = "" if eps is None else f"l2norm_param {{ eps: {eps} }}"
    check_layer(layer(param), [x], [(x / norm).reshape(2, 5, 1, 1)])


def test_refusals():
    assert "has several positions" in str(layer_error(layer(), [(2, 5, 1, 3)]))
    assert "two to four axes" in str(layer_error(layer(), [(2,)]))
    assert "length other than 1" in str(
        layer_error(layer("l2norm_param { l2_length: 10 }"), [(2, 5)])
    )
