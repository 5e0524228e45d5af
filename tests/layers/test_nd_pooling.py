from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error
from test_pooling3d import oracle

SHAPE = (2, 3, 4, 6, 8)


def layer(fields: str) -> str:
    return f'type: "NdPooling" pooling_param {{ {fields} }}'


def test_maxima_of_windows() -> None:
    x = np.random.default_rng(0).standard_normal(SHAPE)
    shapes = "kernel_shape { dim: 1 dim: 2 dim: 3 } stride_shape { dim: 1 dim: 2 dim: 2 }"
    y = oracle(x, (1, 2, 3), (1, 2, 2), (0, 0, 0), "MAX")
    check_layer(layer(shapes), [x], [y])
    padded = "kernel_shape { dim: 2 dim: 3 dim: 3 } pad_shape { dim: 1 dim: 1 dim: 0 }"
    check_layer(layer(padded), [x], [oracle(x, (2, 3, 3), (1, 1, 1), (1, 1, 0), "MAX")])


def test_means_within_the_image() -> None:
    x = np.random.default_rng(1).standard_normal(SHAPE)
    shapes = "kernel_shape { dim: 2 dim: 2 dim: 3 } stride_shape { dim: 1 dim: 2 dim: 1 }"
    y = oracle(x, (2, 2, 3), (1, 2, 1), (0, 0, 0), "AVE")
    check_layer(layer("pool: AVE " + shapes), [x], [y])


@pytest.mark.parametrize(("method", "reduce"), [("MAX", np.max), ("AVE", np.mean)])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_all_axes_whole(method: str, reduce: object, axes: int) -> None:
    x = np.random.default_rng(2).standard_normal(SHAPE[: 2 + axes])
    y = reduce(x, tuple(range(2, x.ndim)), keepdims=True)  # type: ignore[operator]
    check_layer(layer(f"pool: {method} global_pooling: true"), [x], [y])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("kernel_size: 2", "give kernel_shape instead"),
        ("kernel_shape { dim: 2 } stride_shape { dim: 1 dim: 2 }", "need as many values"),
        ("kernel_shape { dim: 2 dim: 2 }", "a kernel of 2 axes for a bottom"),
        (
            "pool: AVE kernel_shape { dim: 2 dim: 2 dim: 2 } pad_shape { dim: 1 dim: 1 dim: 1 }",
            "cuDNN",
        ),
        ("pool: STOCHASTIC", "STOCHASTIC"),
    ],
)
def test_refuses(fields: str, message: str) -> None:
    assert message in str(layer_error(layer(fields), [SHAPE]))
