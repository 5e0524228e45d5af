from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error


def oracle(x: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pixel by pixel, as the code for the GPU has it."""
    y = np.zeros((*x.shape[:2], height, width))
    rows, columns = x.shape[2:]
    for i, k in np.ndindex(height, width):
        r, c = i * rows / height, k * columns / width
        if r > rows - 0.5 or c > columns - 0.5:
            continue
        r0, c0 = int(r), int(c)
        r1, c1 = r0 + 1, c0 + 1
        if r0 >= rows - 1:
            r0 = r1 = rows - 1
            r = r0
        if c0 >= columns - 1:
            c0 = c1 = columns - 1
            c = c0
        low = x[..., r0, c0] * (1 - (c - c0)) + x[..., r0, c1] * (c - c0)
        high = x[..., r1, c0] * (1 - (c - c0)) + x[..., r1, c1] * (c - c0)
        y[..., i, k] = low * (1 - (r - r0)) + high * (r - r0)
    return y


def layer(fields: str) -> str:
    return f'type: "MaskResize" mask_resize_param {{ {fields} }}'


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ("output_height: 3 output_width: 4", (3, 4)),
        ("output_height: 14 output_width: 28", (14, 28)),
        ("output_height: 1 output_width: 1 factor_height: 0.5 factor_width: 2.3", (2, 16)),
        ("output_height: 9 output_width: 1 factor_width: 0.3", (9, 2)),
    ],
)
def test_places_between_corners(fields: str, size: tuple[int, int]) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 7))
    check_layer(layer(fields), [x], [oracle(x, *size)])


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ("output_height: 3", (2, 3, 5, 7), "output_width: must be positive"),
        ("output_height: 3 output_width: 3", (2, 3, 5), "must have 4 axes"),
        ("output_height: 3 output_width: 3 factor_height: 0.1", (2, 3, 5, 7), "no elements"),
    ],
)
def test_refusals(fields: str, shape: tuple[int, ...], message: str) -> None:
    assert message in str(layer_error(layer(fields), [shape]))
