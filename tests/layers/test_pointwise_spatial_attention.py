from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import check_layer, layer_error


def attention(
    x: Any, masks: Any, window: tuple[int, int], factor: float, softmax: bool, distributes: bool
) -> Any:
    """By the loops of the fork: weights from pixel q to pixel p in ``buffer[q, p]``."""
    batch, channels, height, width = x.shape
    buffer = np.zeros((batch, height, width, height, width))
    for h, w, i, j in np.ndindex(height, width, *window):
        y, z = h + i - window[0] // 2, w + j - window[1] // 2
        if 0 <= y < height and 0 <= z < width:
            value = masks[:, i * window[1] + j, h, w]
            if distributes:
                buffer[:, h, w, y, z] = value
            else:
                buffer[:, y, z, h, w] = value
    buffer = buffer.reshape(batch, height * width, height * width)
    if softmax:
        buffer = np.exp(buffer)
        buffer /= buffer.sum(1, keepdims=True)
    return (x.reshape(batch, channels, -1) @ buffer / factor).reshape(x.shape)


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize("kind", ["COLLECT", "DISTRIBUTE"])
@pytest.mark.parametrize("window", [(), (3, 5), (9, 3)])
def test_each_pixel_is_made_of_all(softmax: bool, kind: str, window: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    height, width = window or (7, 9)
    x = rng.standard_normal((2, 3, 4, 5))
    masks = rng.standard_normal((2, height * width, 4, 5))
    fields = f"psa_type: {kind} is_softmax: {str(softmax).lower()}"
    if window:
        fields += f" attention_mask_height: {height} attention_mask_width: {width}"
    factor: float = height * width
    if softmax:
        fields += " normalization_factor: 0.5"
        factor = 0.5
    y = attention(x, masks, (height, width), factor, softmax, kind == "DISTRIBUTE")
    text = f'type: "PointwiseSpatialAttention" pointwise_spatial_attention_param {{ {fields} }}'
    check_layer(text, [x, masks], [y])


@pytest.mark.parametrize(
    "fields", ["attention_mask_height: 3", "attention_mask_height: 3 attention_mask_width: 4"]
)
def test_refuses_windows(fields: str) -> None:
    text = f'type: "PointwiseSpatialAttention" pointwise_spatial_attention_param {{ {fields} }}'
    error = layer_error(text, [(1, 3, 4, 5), (1, 9, 4, 5)])
    assert "both given, odd and larger than 1, or neither" in str(error)


def test_refuses_other_masks() -> None:
    error = layer_error('type: "PointwiseSpatialAttention"', [(1, 3, 4, 5), (1, 9, 4, 5)])
    assert "they need (1, 63, 4, 5)" in str(error)
