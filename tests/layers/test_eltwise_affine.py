from __future__ import annotations

import numpy as np
import pytest
from harness import build, check_layer, layer_error


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 5, 7)])
@pytest.mark.parametrize("shared", [False, True])
def test_slope_and_bias_of_each_channel(shape: tuple[int, ...], shared: bool) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape)
    slope, bias = rng.standard_normal((2, *(() if shared else (3,))))
    column = () if shared else (3, *[1] * (len(shape) - 2))
    y = x * slope.reshape(column) + bias.reshape(column)
    fields = f"channel_shared: {str(shared).lower()}"
    text = f'type: "EltwiseAffine" eltwise_affine_param {{ {fields} }}'
    check_layer(text, [x], [y], blobs=[slope, bias])


def test_defaults_of_the_fillers() -> None:
    graph = build('type: "EltwiseAffine"', [(2, 3, 5, 7)], 1)
    weight, bias = (graph.params[f"l.{name}"] for name in ("weight", "bias"))
    assert weight.tolist() == [np.float32(1.0001)] * 3
    assert bias.tolist() == [np.float32(0.0001)] * 3


def test_one_axis_is_refused() -> None:
    assert "fewer than two axes" in str(layer_error('type: "EltwiseAffine"', [(3,)]))
