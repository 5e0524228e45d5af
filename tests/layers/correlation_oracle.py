"""What the tests of both correlations share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def layer(fields: str, type: str = "Correlation") -> str:
    return f'type: "{type}" correlation_param {{ {fields} }}'


def oracle(
    a: Any,
    b: Any,
    pads: tuple[int, int],
    margins: tuple[int, int],
    displacements: list[tuple[int, int]],
    kernel: int,
    stride: int = 1,
    subtract: bool = False,
) -> Any:
    """By the loops of the fork's kernels."""
    spread = [(0, 0), (0, 0), (pads[0],) * 2, (pads[1],) * 2]
    a, b = np.pad(a, spread), np.pad(b, spread)
    sizes = [
        math.ceil((n - 2 * (m + (kernel - 1) // 2)) / stride)
        for n, m in zip(a.shape[2:], margins, strict=True)
    ]
    y = np.zeros((len(a), len(displacements), *sizes))
    for k, (dy, dx) in enumerate(displacements):
        for i in range(sizes[0]):
            for j in range(sizes[1]):
                top, left = i * stride + margins[0], j * stride + margins[1]
                first = a[:, :, top : top + kernel, left : left + kernel]
                second = b[:, :, top + dy : top + dy + kernel, left + dx : left + dx + kernel]
                both = np.abs(first - second) if subtract else first * second
                y[:, k, i, j] = both.sum((1, 2, 3)) / (kernel * kernel * a.shape[1])
    return y


def square(reach: int, step: int) -> list[tuple[int, int]]:
    steps = [k * step for k in range(-(reach // step), reach // step + 1)]
    return [(dy, dx) for dy in steps for dx in steps]


def two(shape: tuple[int, ...] = (2, 3, 9, 11)) -> list[Any]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape), rng.standard_normal(shape)]
