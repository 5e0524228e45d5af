from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer
from refusals import refusal, resolved

from caffe2torch.errors import NetError


def oracle(x: np.ndarray, slope: np.ndarray) -> np.ndarray:
    slope = slope.reshape(-1, *[1] * (x.ndim - 2))
    return np.maximum(x, 0) + slope * np.minimum(x, 0)


@pytest.mark.parametrize("rest", [(3,), (3, 5), (3, 5, 7)])
@pytest.mark.parametrize("shared", [False, True])
def test_slopes(rest: tuple[int, ...], shared: bool) -> None:
    rng = np.random.default_rng(1)
    small, large = rng.standard_normal((2, *rest)), rng.standard_normal((4, *rest))
    slope = rng.standard_normal(() if shared else 3)
    check_layer(
        f'type: "PReLU" prelu_param {{ channel_shared: {str(shared).lower()} }}',
        [small],
        [oracle(small, slope)],
        blobs=[slope],
        batch_inputs=[large],
        batch_expected=[oracle(large, slope)],
    )


@pytest.mark.parametrize(
    ("param", "value", "shape"),
    [
        ("", 0.25, (3,)),
        ("channel_shared: true", 0.25, ()),
        ("filler { value: 0.5 }", 0.5, (3,)),
        ("filler { }", 0, (3,)),
    ],
)
def test_filler(param: str, value: float, shape: tuple[int, ...]) -> None:
    layer = resolved(f'type: "PReLU" bottom: "x" top: "y" prelu_param {{ {param} }}')
    (spec,) = layer.blob_specs([(2, 3, 5)])
    assert (spec.shape, spec.given) == (shape, True)
    assert (spec.filler.type, spec.filler.value) == ("constant", value)


def test_refuses_a_single_axis() -> None:
    error = refusal('type: "PReLU" bottom: "x" top: "y"', (7,))
    assert isinstance(error, NetError)
    assert "shape (7,) has fewer than two axes" in str(error)
