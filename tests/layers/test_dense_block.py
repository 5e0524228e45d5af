from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import build, check_layer, layer_error

TRANSITIONS, GROWTH, CHANNELS = 2, 3, 5


def layer(fields: str = "") -> str:
    return (
        f'type: "DenseBlock" denseblock_param {{ numTransition: {TRANSITIONS} '
        f"growthRate: {GROWTH} initChannel: 64 {fields} }}"
    )


def arrays(bottleneck: bool, factor: float) -> list[Any]:
    rng = np.random.default_rng(7)
    inner = 4 * GROWTH
    widths = [CHANNELS + i * GROWTH for i in range(TRANSITIONS)]

    def statistics(channels: list[int]) -> list[Any]:
        shapes = [(1, n, 1, 1) for n in channels]
        kinds = [rng.standard_normal(s) for _ in range(3) for s in shapes]
        return kinds + [rng.uniform(0.5, 2, s) for s in shapes]

    def filters(shapes: list[tuple[int, ...]]) -> list[Any]:
        return [rng.standard_normal(s) * 0.3 for s in shapes]

    sources = [inner] * TRANSITIONS if bottleneck else widths
    blobs = filters([(GROWTH, n, 3, 3) for n in sources]) + statistics(widths)
    if bottleneck:
        blobs += filters([(inner, n, 1, 1) for n in widths]) + statistics([inner] * TRANSITIONS)
    return [*blobs, np.array([factor])]


def convolved(x: Any, weight: Any) -> Any:
    """The fork's CPU loops: the kernel is turned, the image is padded by zeros."""
    radius = weight.shape[2] // 2
    height, width = x.shape[2:]
    y = np.zeros((len(x), len(weight), height, width))
    for h in range(height):
        for w in range(width):
            for i in range(weight.shape[2]):
                for j in range(weight.shape[3]):
                    row, column = h + radius - i, w + radius - j
                    if 0 <= row < height and 0 <= column < width:
                        y[:, :, h, w] += x[:, :, row, column] @ weight[:, :, i, j].T
    return y


def oracle(x: Any, blobs: list[Any], bottleneck: bool) -> Any:
    n = TRANSITIONS
    factor = blobs[-1][0] or 1.0

    def normalized(x: Any, first: int, i: int) -> Any:
        scale, shift, mean, variance = (blobs[first + k * n + i] for k in range(4))
        y = scale * (x - mean / factor) / np.sqrt(variance / factor + 1e-5) + shift
        return np.maximum(y, 0)

    for i in range(n):
        y = normalized(x, n, i)
        if bottleneck:
            y = normalized(convolved(y, blobs[5 * n + i]), 6 * n, i)
        x = np.concatenate([x, convolved(y, blobs[i])], 1)
    return x


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("factor", [0.0, 2.5])
def test_each_transition_adds_channels(bottleneck: bool, factor: float) -> None:
    x = np.random.default_rng(1).standard_normal((2, CHANNELS, 4, 6))
    blobs = arrays(bottleneck, factor)
    fields = f"use_BC: {str(bottleneck).lower()} use_dropout: true dropout_amount: 0.5"
    check_layer(layer(fields), [x], [oracle(x, blobs, bottleneck)], blobs)


def test_what_has_no_meaning_is_refused() -> None:
    shape = [(2, CHANNELS, 4, 6)]
    text = 'type: "DenseBlock" denseblock_param { growthRate: 0 }'
    assert "denseblock_param.growthRate: must be positive" in str(layer_error(text, shape))
    assert "statistics of a batch" in str(layer_error(layer(), shape, phase="TRAIN"))


def test_products_are_counted() -> None:
    graph = build(layer(), [(1, CHANNELS, 4, 6)], 1, arrays(False, 0))
    node = graph.nodes[-1]
    shapes = [graph.shapes[name] for name in (*node.inputs, *node.outputs)]
    expected = 4 * 6 * 9 * GROWTH * (CHANNELS + CHANNELS + GROWTH)
    assert node.layer.multiply_adds(shapes[:1], shapes[1:]) == expected
