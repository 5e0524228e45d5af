from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import check_layer, layer_error


def oracle(image: Any, flow: Any, outside: float) -> Any:
    """By the loops of the fork."""
    n, _, height, width = image.shape
    y = np.full(image.shape, outside)
    for k in range(n):
        for i in range(height):
            for j in range(width):
                x2, y2 = j + flow[k, 0, i, j], i + flow[k, 1, i, j]
                if not (x2 >= 0 and y2 >= 0 and x2 < width and y2 < height):
                    continue
                left, top = int(x2), int(y2)
                right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
                alpha, beta = x2 - left, y2 - top
                y[k, :, i, j] = (
                    (1 - alpha) * (1 - beta) * image[k, :, top, left]
                    + alpha * (1 - beta) * image[k, :, top, right]
                    + (1 - alpha) * beta * image[k, :, bottom, left]
                    + alpha * beta * image[k, :, bottom, right]
                )
    return y


@pytest.mark.parametrize(
    ("fields", "outside"),
    [("", 0.0), ("fill_value: ZERO", 0.0), ("fill_value: NOT_A_NUMBER", np.nan)],
)
def test_pixels_come_from_where_the_flow_points(fields: str, outside: float) -> None:
    rng = np.random.default_rng(2)
    image = rng.standard_normal((2, 3, 5, 7))
    flow = rng.integers(-400, 400, (2, 2, 5, 7)) / 128  # Exact in float32, also after a sum.
    flow[0, 0, :, 6] = 0.5  # Between the last pixel and the edge.
    text = f'type: "FlowWarp" flow_warp_param {{ {fields} }}'
    check_layer(text, [image, flow], [oracle(image, flow, outside)])


def test_a_flow_has_two_channels_and_the_size_of_the_image() -> None:
    error = layer_error('type: "FlowWarp"', [(2, 3, 5, 7), (2, 3, 5, 7)])
    assert "it needs (2, 2, 5, 7)" in str(error)
