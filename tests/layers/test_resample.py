from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from harness import check_layer, layer_error

from caffe2torch.errors import NetError, UnsupportedLayerError


def triangle(x: float) -> float:
    return max(0.0, 1 - abs(x))


def cubic(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return x * x * (1.5 * x - 2.5) + 1
    return x * (x * (-0.5 * x + 2.5) - 4) + 2 if x < 2 else 0.0


def rounded(x: float) -> int:
    return int(math.floor(abs(x) + 0.5) * math.copysign(1, x))


def oracle(x: Any, size: tuple[int, int], kind: str = "LINEAR", antialias: bool = True) -> Any:
    """By the loops of the fork's kernels: windows of pixels around each place."""
    height, width = x.shape[2:]
    fx, fy = width / size[1], height / size[0]
    wide = antialias and (fx > 1 or fy > 1)
    ax, ay = (1 / fx, 1 / fy) if wide else (1.0, 1.0)
    reach = 4 if kind == "CUBIC" else 2
    rx = 2 if fx < 1 else math.ceil(reach / ax)
    ry = 2 if fy < 1 else math.ceil(reach / ay)
    kernel = cubic if kind == "CUBIC" else triangle
    y = np.zeros((*x.shape[:2], *size))
    for i in range(size[0]):
        for j in range(size[1]):
            at_x, at_y = j * fx + fy / 2 - 0.5, i * fy + fx / 2 - 0.5
            if kind == "NEAREST":
                y[:, :, i, j] = x[:, :, rounded(at_y), rounded(at_x)]
                continue
            total = 0.0
            for r in range(rounded(at_y) - ry, rounded(at_y) + ry + 1):
                for c in range(rounded(at_x) - rx, rounded(at_x) + rx + 1):
                    if 0 <= r < height and 0 <= c < width:
                        weight = kernel(ax * (at_x - c)) * kernel(ay * (at_y - r))
                        y[:, :, i, j] += weight * x[:, :, r, c]
                        total += weight
            y[:, :, i, j] = y[:, :, i, j] / total if total else 0
    return y


def layer(fields: str) -> str:
    return f'type: "Resample" resample_param {{ {fields} }}'


@pytest.mark.parametrize("kind", ["LINEAR", "CUBIC"])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("size", [(12, 20), (3, 5), (6, 10), (7, 4), (3, 20), (13, 21)])
def test_kernels(kind: str, antialias: bool, size: tuple[int, int]) -> None:
    x = np.random.default_rng(3).standard_normal((2, 3, 6, 10))
    fields = f"height: {size[0]} width: {size[1]} type: {kind} antialias: {str(antialias).lower()}"
    check_layer(layer(fields), [x], [oracle(x, size, kind, antialias)])


@pytest.mark.parametrize("size", [(12, 20), (3, 5), (6, 10), (9, 15)])
def test_nearest(size: tuple[int, int]) -> None:
    x = np.random.default_rng(4).standard_normal((2, 3, 6, 10))
    fields = f"height: {size[0]} width: {size[1]} type: NEAREST"
    check_layer(layer(fields), [x], [oracle(x, size, "NEAREST")], rtol_peak=0)


def test_the_size_of_a_second_bottom() -> None:
    rng = np.random.default_rng(5)
    x, other = rng.standard_normal((2, 3, 6, 10)), rng.standard_normal((2, 1, 9, 15))
    check_layer('type: "Resample"', [x, other], [oracle(x, (9, 15))])


def test_refuses() -> None:
    shape = [(2, 3, 6, 10)]
    assert isinstance(layer_error(layer("height: 3"), shape), NetError)
    assert "not AREA" in str(layer_error(layer("height: 3 width: 5 type: AREA"), shape))
    error = layer_error(layer("height: 2 width: 10 type: NEAREST"), shape)
    assert isinstance(error, UnsupportedLayerError)
    assert "reads outside of the bottom" in str(error)
