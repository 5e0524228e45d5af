from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error

RNG = np.random.default_rng(0)


def layer(fields: str = "") -> str:
    return f'type: "ChannelScale" channel_scale_param {{ {fields} }}'


@pytest.mark.parametrize(
    ("shape", "scales"),
    [((2, 3, 5, 7), (2, 1, 5, 7)), ((2, 3, 5, 7), (2, 35)), ((2, 3), (2, 1, 1, 1)), ((2, 3), (2,))],
)
def test_a_scale_at_each_position(shape: tuple[int, ...], scales: tuple[int, ...]) -> None:
    x, scale = RNG.normal(size=shape), RNG.normal(size=scales)
    expected = np.empty(shape)
    for n in range(shape[0]):
        for c in range(shape[1]):
            expected[n, c] = x[n, c] * scale[n].reshape(shape[2:])
    check_layer(layer(), [x, scale], [expected])


@pytest.mark.parametrize(("blob", "factor"), [(16.0, 16.0), (-1.0, 2.0), (99.0, 30.0)])
def test_a_global_scale_is_clipped(blob: float, factor: float) -> None:
    x, scale = RNG.normal(size=(2, 3)), RNG.normal(size=(2, 1))
    text = layer("global_scale: true min_global_scale: 2 max_global_scale: 30")
    check_layer(text, [x, scale], [x * factor, [factor]], blobs=[[blob]])


def test_no_forward_copies() -> None:
    x = RNG.normal(size=(2, 3))
    check_layer(layer("do_forward: false"), [x, np.ones((2, 1))], [x])


def test_refusals() -> None:
    assert "does not fit" in str(layer_error(layer(), [(2, 3, 5, 7), (2, 1, 5, 5)]))
    assert "two or four axes" in str(layer_error(layer(), [(2, 3, 5), (2, 5)]))
    assert "only a global scale" in str(layer_error(layer(), [(2, 3), (2, 1)], tops=2))
