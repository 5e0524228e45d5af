from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from harness import check_layer, layer_error


def oracle(x: Any, size: tuple[int, int]) -> Any:
    """By the loops of the fork's kernel."""
    height, width = x.shape[2:]
    step_y, step_x = (height - 1) / (size[0] - 1), (width - 1) / (size[1] - 1)
    y = np.zeros((*x.shape[:2], *size))
    for n, c in np.ndindex(*x.shape[:2]):
        for i, j in np.ndindex(*size):
            at_y, at_x = i * step_y, j * step_x
            total = weights = missing = 0.0
            for r in range(round(at_y) - math.ceil(step_y), round(at_y) + math.ceil(step_y) + 1):
                for k in range(
                    round(at_x) - math.ceil(step_x), round(at_x) + math.ceil(step_x) + 1
                ):
                    if not (0 <= r < height and 0 <= k < width):
                        continue
                    weight = max(0.0, 1 - abs(k - at_x) / step_x)
                    weight *= max(0.0, 1 - abs(r - at_y) / step_y)
                    if np.isnan(x[n, c, r, k]):
                        missing += weight
                    else:
                        total += x[n, c, r, k] * weight
                        weights += weight
            with np.errstate(divide="ignore", invalid="ignore"):
                share = np.float64(missing) / np.float64(weights)
                y[n, c, i, j] = np.nan if share > 0.5 else np.float64(total) / np.float64(weights)
    return y


def layer(size: tuple[int, int]) -> str:
    return f'type: "Downsample" downsample_param {{ top_height: {size[0]} top_width: {size[1]} }}'


@pytest.mark.parametrize("size", [(4, 5), (3, 9), (7, 3), (2, 2), (6, 9)])
@pytest.mark.parametrize("holes", [0, 20])
def test_means_without_what_is_missing(size: tuple[int, int], holes: int) -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, 3, 7, 9))
    x.ravel()[rng.choice(x.size, holes * 5, replace=False)] = np.nan
    check_layer(layer(size), [x], [oracle(x, size)])


def test_the_size_of_a_second_bottom() -> None:
    rng = np.random.default_rng(2)
    x, other = rng.standard_normal((2, 3, 7, 9)), rng.standard_normal((2, 1, 3, 4))
    check_layer('type: "Downsample"', [x, other], [oracle(x, (3, 4))])
    check_layer('type: "Downsample"', [x, x], [x], rtol_peak=0)


@pytest.mark.parametrize("size", [(8, 9), (1, 4)])
def test_larger_and_single_pixels_are_refused(size: tuple[int, int]) -> None:
    assert "cannot be reduced to" in str(layer_error(layer(size), [(2, 3, 7, 9)]))
    assert "must be positive" in str(layer_error(layer((0, 1)), [(2, 3, 7, 9)]))
