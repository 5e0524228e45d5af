from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from refusals import refusal

from caffe2torch.errors import NetError


@pytest.mark.parametrize("bias_term", [False, True])
@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 5)])
def test_lookup(bias_term: bool, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    index = rng.integers(0, 7, shape)
    weight, bias = rng.standard_normal((7, 4)), rng.standard_normal(4)
    y = np.empty((*shape, 4))
    for place in np.ndindex(shape):
        y[place] = weight[index[place]] + (bias if bias_term else 0)
    flag = f"bias_term: {str(bias_term).lower()}"
    check_layer(
        f'type: "Embed" embed_param {{ num_output: 4 input_dim: 7 {flag} }}',
        [index],
        [y],
        blobs=[weight, bias] if bias_term else [weight],
    )


@pytest.mark.parametrize(
    ("param", "field"), [("input_dim: 7", "num_output"), ("num_output: 4", "input_dim")]
)
def test_refuses_a_missing_size(param: str, field: str) -> None:
    error = refusal(f'type: "Embed" bottom: "x" top: "y" embed_param {{ {param} }}')
    assert isinstance(error, NetError)
    assert f"embed_param.{field}: must be positive" in str(error)
