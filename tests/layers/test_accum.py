from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from harness import check_layer, layer_error


def resized(x: Any, size: tuple[int, int]) -> Any:
    """By the loops of the fork."""
    height, width = x.shape[2:]
    y = np.zeros((*x.shape[:2], *size))
    for i, j in np.ndindex(*size):
        at_y, at_x = i / (size[0] - 1) * (height - 1), j / (size[1] - 1) * (width - 1)
        top, left = int(at_y), int(at_x)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        dy, dx = at_y - top, at_x - left
        y[:, :, i, j] = (1 - dy) * ((1 - dx) * x[:, :, top, left] + dx * x[:, :, top, right])
        y[:, :, i, j] += dy * ((1 - dx) * x[:, :, bottom, left] + dx * x[:, :, bottom, right])
    return y


def two() -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((2, 3, 4, 7)), rng.standard_normal((2, 2, 6, 5))]


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ("", (6, 7)),
        ("top_height: 9 top_width: 8", (9, 8)),
        ("top_height: 9 top_width: 7", (6, 7)),
        ("size_divisible_by: 5", (10, 10)),
        ("size_divisible_by: 7", (6, 7)),
        ("size_divisible_by: 4", (8, 8)),
    ],
)
def test_all_have_one_size(fields: str, size: tuple[int, int]) -> None:
    expected = np.concatenate([resized(x, size) for x in two()], 1)
    check_layer(f'type: "Accum" accum_param {{ {fields} }}', two(), [expected])


def test_a_reference_gives_the_size() -> None:
    first, second = two()
    check_layer(
        'type: "Accum" accum_param { have_reference: true }',
        [first, second],
        [resized(first, (6, 5))],
    )


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        ("have_reference: true", [(2, 3, 4, 5)], "needs a second bottom"),
        ("", [(2, 3, 4, 5), (3, 3, 4, 5)], "must have one batch size"),
        ("", [(2, 3, 1, 5), (2, 3, 1, 4)], "both sizes must exceed 1"),
        ("size_divisible_by: 0", [(2, 3, 4, 5)], "must be positive"),
    ],
)
def test_refuses(fields: str, shapes: Any, message: str) -> None:
    assert message in str(layer_error(f'type: "Accum" accum_param {{ {fields} }}', shapes))
