from __future__ import annotations

from math import floor

import numpy as np
import pytest
from harness import check_layer, layer_error


def cubic(v: list[float], d: float) -> float:
    a = -0.5 * v[0] + 1.5 * v[1] - 1.5 * v[2] + 0.5 * v[3]
    b = v[0] - 2.5 * v[1] + 2 * v[2] - 0.5 * v[3]
    return a * d**3 + b * d**2 + (-0.5 * v[0] + 0.5 * v[2]) * d + v[1]


def neighbours(p: int, size: int, new: int, margin: int) -> tuple[list[int], float]:
    inner = size - 2 * margin
    place = (p - (new / inner / 2 - 0.5)) * (inner / new)
    one = max(int(place + 1e-5), 0)
    two = min(one + 1, inner - 1)
    four = [max(one - 1, 0), one, two, min(two + 1, inner - 1)]
    return [n + margin for n in four], place - one


def oracle(x: np.ndarray, height: int, width: int, start: float = 1) -> np.ndarray:
    y = np.empty((*x.shape[:2], height, width))
    margins = [floor(n // 2 * (1 - start)) for n in x.shape[2:]]
    for c, i, k in np.ndindex(*y.shape[1:]):
        rows, dy = neighbours(i, x.shape[2], height, margins[0])
        columns, dx = neighbours(k, x.shape[3], width, margins[1])
        y[0, c, i, k] = cubic([cubic([x[0, c, r, q] for q in columns], dx) for r in rows], dy)
    return y


def layer(fields: str) -> str:
    return f'type: "ImResize" imresize_param {{ {fields} }}'


@pytest.mark.parametrize(
    ("fields", "size", "start"),
    [
        ("factor: 8", (40, 56), 1),
        ("factor: 2.5 scale_gap: 0.3", (12, 17), 1),
        ("target_spatial_height: 3 target_spatial_width: 11", (3, 11), 1),
        ("factor: 4 start_scale: 0.5", (20, 28), 0.5),
    ],
)
def test_cubic_interpolation(fields: str, size: tuple[int, int], start: float) -> None:
    x = np.random.default_rng(0).normal(size=(1, 3, 5, 7))
    check_layer(layer(fields), [x], [oracle(x, *size, start)])


def test_the_size_is_368_by_default() -> None:
    x = np.random.default_rng(0).normal(size=(1, 1, 2, 3))
    check_layer('type: "ImResize"', [x], [oracle(x, 368, 368)])


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ("factor: 8", (2, 3, 5, 7), "averages the 2 items as scales of one image"),
        ("factor: 8", (1, 3, 5), "must have 4 axes"),
        ("start_scale: 0", (1, 3, 5, 7), "must lie between 0 and 1"),
        ("factor: 0.1", (1, 3, 5, 7), "no elements"),
    ],
)
def test_refusals(fields: str, shape: tuple[int, ...], message: str) -> None:
    assert message in str(layer_error(layer(fields), [shape]))
