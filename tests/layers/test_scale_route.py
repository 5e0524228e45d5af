from __future__ import annotations

from math import log2, sqrt

import numpy as np
import pytest
from harness import check_layer, layer_error


def layer(fields: str) -> str:
    return f'type: "ScaleRoute" scale_route_param {{ {fields} }}'


def inputs(count: int = 9) -> list[np.ndarray]:
    rng = np.random.default_rng(count)
    corners = np.sort(rng.uniform(0, 300, (count, 2, 2)), 1).reshape(count, 4)
    corners[::4] = corners[::4, [2, 3, 0, 1]]  # Inverted.
    regions = np.concatenate([rng.integers(0, 3, (count, 1)), corners], 1)
    return [regions.astype(np.float32), rng.normal(size=(count, 2, 3, 5)).astype(np.float32)]


def oracle(values, low, high, middle):
    chosen, distances = [], []
    for i, (_, x1, y1, x2, y2) in enumerate(values[0].astype(np.float64)):
        scale = 0 if x2 < x1 or y2 < y1 else sqrt((x2 - x1 + 1) * (y2 - y1 + 1))
        if low <= scale < high:
            chosen.append(i)
        distances.append(abs(log2(scale / middle)) if scale else np.inf)
    chosen = chosen or [int(np.argmin(distances))]
    return [v[chosen].reshape(len(chosen), *v.shape[1:], *[1] * (4 - v.ndim)) for v in values]


@pytest.mark.parametrize(
    ("fields", "low", "high", "middle"),
    [
        ("high_scale: 112", 0, 112, 112),
        ("low_scale: 60 high_scale: 200", 60, 200, sqrt(60 * 200)),
        ("low_scale: 100", 100, np.inf, 100),
        ("", 0, np.inf, 256),
        ("low_scale: 500", 500, np.inf, 500),
        ("low_scale: 70 high_scale: 70", 70, 70, 70),
    ],
)
def test_regions_of_a_range(fields, low, high, middle):
    values = inputs()
    wanted = oracle(values, low, high, middle)
    check_layer(layer(fields), values, wanted)
    check_layer(layer(fields), values[:1], wanted[:1])


@pytest.mark.parametrize(
    ("fields", "shapes", "text"),
    [
        ("low_scale: 0", ((3, 5),), "from 0 to"),
        ("low_scale: 9 high_scale: 8", ((3, 5),), "from 9 to 8 is not a range"),
        ("", ((3, 4),), "(3, 4) is not (R, 5)"),
        ("", ((3, 5), (2, 5)), "(2, 5) is not of 3 items"),
    ],
)
def test_refusals(fields, shapes, text):
    assert text in str(layer_error(layer(fields), shapes, tops=len(shapes)))
