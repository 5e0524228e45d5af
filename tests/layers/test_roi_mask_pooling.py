from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import check_layer, layer_error
from region_oracles import random_regions, roi_pooling


def scaled(regions: Any, scale: float, part: int) -> Any:
    """Each region grown around its centre, and the half of it that ``part`` names."""
    rows = []
    for image, x1, y1, x2, y2 in regions:
        middle, width, height = ((x1 + x2) / 2, (y1 + y2) / 2), x2 - x1, y2 - y1
        left, right = middle[0] - width * scale / 2, middle[0] + width * scale / 2
        upper, lower = middle[1] - height * scale / 2, middle[1] + height * scale / 2
        if part == 1:
            right = middle[0]
        elif part == 2:
            left = middle[0]
        elif part == 3:
            lower = middle[1]
        elif part == 4:
            upper = middle[1]
        rows.append((image, left, upper, right, lower))
    return np.array(rows, np.float32)


@pytest.mark.parametrize("part", range(6))
@pytest.mark.parametrize(("scale", "shift"), [(0.8, 0.0), (1.806, 0.25)])
def test_scaled_regions_are_pooled(part: int, scale: float, shift: float) -> None:
    rng = np.random.default_rng(part)
    data = rng.normal(size=(2, 3, 11, 13)).astype(np.float32)
    regions = random_regions(rng, 9, 2, 26).astype(np.float32)
    rows = scaled(regions, scale, part)
    rows[:, 1:] = rows[:, 1:] * np.float32(0.5) + np.float32(shift)
    text = f"""type: "ROIMaskPooling" roi_mask_pooling_param {{ pooled_h: 3 pooled_w: 4
        spatial_scale: 0.5 roi_scale: {scale} half_part: {part} spatial_shift: {shift} }}"""
    check_layer(text, [data, regions], [roi_pooling(data, rows, (3, 4), 1)])


def test_refuses() -> None:
    text = 'type: "ROIMaskPooling" roi_mask_pooling_param {{ pooled_h: 3 {} }}'
    shapes = [(2, 3, 5, 7), (4, 5)]
    error = layer_error(text.format("pooled_w: 2 mask_scale: 0.5"), shapes)
    assert "the code compares 0 in place of the numbers within the mask" in str(error)
    assert "roi_mask_pooling_param.pooled_w: must be greater than 0" in str(
        layer_error(text.format(""), shapes)
    )
