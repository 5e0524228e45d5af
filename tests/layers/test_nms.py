from __future__ import annotations

import numpy as np
import pytest
from harness import check_layer, layer_error


def oracle(x: np.ndarray, parts: int, most: int, threshold: float) -> np.ndarray:
    """By loops over the pixels, in the whole blob's memory as that code reads it."""
    height, width = x.shape[2:]
    flat, y = x.ravel(), np.zeros((1, parts, most + 1, 3))
    for c in range(parts):
        count = 0
        for r in range(1, height - 1):
            for k in range(1, width - 1):
                around = x[0, c, r - 1 : r + 2, k - 1 : k + 2]
                value = x[0, c, r, k]
                if value <= threshold or (around >= value).sum() > 1:
                    continue
                count += 1
                if count > most:
                    continue
                total = np.zeros(3)
                for row in range(r - 3, r + 4):
                    for column in range(k - 3, k + 4):
                        if 0 < row < width and 0 < column < width:
                            score = flat[c * height * width + row * width + column]
                            if score > 0:
                                total += np.array([column * score, row * score, score])
                y[0, c, count] = *(total[:2] / total[2]), value
        y[0, c, 0, 0] = count
    return y


def layer(fields: str) -> str:
    return f'type: "Nms" nms_param {{ {fields} }}'


@pytest.mark.parametrize("size", [(9, 7), (9, 13), (3, 20), (12, 12)])
@pytest.mark.parametrize(("most", "threshold"), [(20, 0.5), (2, 0.05), (20, 9.0)])
def test_peaks(size: tuple[int, int], most: int, threshold: float) -> None:
    x = np.random.default_rng(0).normal(size=(1, 5, *size)).astype(np.float32)
    expected = oracle(x.astype(np.float64), 3, most, np.float32(threshold))
    assert threshold == 9 or expected[0, :, 0, 0].max() > 1
    text = layer(f"num_parts: 3 max_peaks: {most} threshold: {threshold}")
    check_layer(text, [x], [expected])


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ("num_parts: 3", (2, 5, 9, 7), "is not one of at least (1, C, 3, 3)"),
        ("num_parts: 3", (1, 5, 9, 2), "is not one of at least (1, C, 3, 3)"),
        ("num_parts: 6", (1, 5, 9, 7), "5 maps are too few to read 6 of 9 x 7"),
        ("num_parts: 5", (1, 5, 7, 9), "5 maps are too few to read 5 of 7 x 9"),
        ("max_peaks: 0", (1, 5, 9, 7), "nms_param.max_peaks: must be positive"),
    ],
)
def test_refusals(fields: str, shape: tuple[int, ...], message: str) -> None:
    assert message in str(layer_error(layer(fields), [shape]))
