from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from harness import check_layer, layer_error

LOWEST = float(np.finfo(np.float32).min)


def oracle(x: Any, kernel: Any, stride: Any, pad: Any, method: str) -> Any:
    """By the loops of the fork."""
    sizes = x.shape[2:]
    outputs = [
        math.ceil((n + 2 * p - k) / s) + 1
        for n, k, s, p in zip(sizes, kernel, stride, pad, strict=True)
    ]
    y = np.zeros((*x.shape[:2], *outputs))
    for position in np.ndindex(*outputs):
        starts = [i * s - p for i, s, p in zip(position, stride, pad, strict=True)]
        ends = [
            min(start + k, n + p) for start, k, n, p in zip(starts, kernel, sizes, pad, strict=True)
        ]
        divisor = math.prod(e - s for s, e in zip(starts, ends, strict=True))
        part = x[(..., *(slice(max(s, 0), max(e, 0)) for s, e in zip(starts, ends, strict=True)))]
        axes = tuple(range(2, x.ndim))
        if method == "MAX":
            y[(..., *position)] = part.max(axes, initial=LOWEST)
        else:
            y[(..., *position)] = part.sum(axes) / divisor
    return y


CASES = [
    ("pool: MAX kernel_size: 2 kernel_depth: 1 stride: 2", (1, 2, 2), (1, 2, 2), 0, "MAX"),
    ("kernel_size: 3 kernel_depth: 2 stride: 2 temporal_stride: 2", (2, 3, 3), (2, 2, 2), 0, "MAX"),
    ("kernel_size: 2 kernel_depth: 2 stride: 3 temporal_stride: 3", (2, 2, 2), (3, 3, 3), 0, "MAX"),
    ("pool: AVE kernel_size: 3 kernel_depth: 2 stride: 2 pad: 1", (2, 3, 3), (1, 2, 2), 1, "AVE"),
    ("pool: AVE kernel_size: 2 kernel_depth: 2 stride: 2 pad: 1", (2, 2, 2), (1, 2, 2), 1, "AVE"),
    ("pool: AVE kernel_size: 2 kernel_depth: 3 temporal_stride: 2", (3, 2, 2), (2, 1, 1), 0, "AVE"),
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("field", ["pooling3d_param", "pooling_param"])
@pytest.mark.parametrize("sizes", [(4, 5, 7), (5, 6, 8)])
def test_windows_are_kept(case: Any, field: str, sizes: tuple[int, ...]) -> None:
    fields, kernel, stride, pad, method = case
    x = np.random.default_rng(1).standard_normal((2, 3, *sizes))
    y = oracle(x, kernel, stride, (0, pad, pad), method)
    check_layer(f'type: "Pooling3D" {field} {{ {fields} }}', [x], [y])


@pytest.mark.parametrize(
    ("fields", "kernel", "stride", "pad"),
    [
        ("kernel_size: 3 kernel_l: 2 stride: 2 stride_l: 2 pad_l: 0", (2, 3, 3), (2, 2, 2), 0),
        ("kernel_h: 2 kernel_w: 3 kernel_l: 3 pad: 1 pad_l: 1 stride: 2", (3, 2, 3), (1, 2, 2), 1),
    ],
)
@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_pseudo_3d_names_the_axes_otherwise(
    fields: str, kernel: Any, stride: Any, pad: int, method: str
) -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 4, 5, 7))
    y = oracle(x, kernel, stride, (pad,) * 3, method)
    # With a pad, windows that begin beyond the image and its first padding are dropped.
    kept = [
        sum(i * s < n + pad or not pad for i in range(o))
        for o, s, n in zip(y.shape[2:], stride, x.shape[2:], strict=True)
    ]
    y = y[:, :, : kept[0], : kept[1], : kept[2]]
    check_layer(f'type: "Pooling3D" pooling3d_param {{ pool: {method} {fields} }}', [x], [y])


def test_pseudo_3d_pools_the_whole_volume() -> None:
    x = np.random.default_rng(1).standard_normal((2, 3, 4, 5, 7))
    text = 'type: "Pooling3D" pooling3d_param { pool: AVE global_pooling: true }'
    check_layer(text, [x], [x.mean((2, 3, 4), keepdims=True)])


@pytest.mark.parametrize(
    ("fields", "shape", "message"),
    [
        ("kernel_size: 2", (1, 2, 4, 5, 7), "kernel_depth: must be given"),
        ("kernel_size: 2 kernel_l: 2 pad_l: 2", (1, 2, 4, 5, 7), "must be less than the kernel"),
        ("kernel_l: 2", (1, 2, 4, 5, 7), "must be positive"),
        ("kernel_h: 2 kernel_l: 2", (1, 2, 4, 5, 7), "give either kernel_size or both kernel_h"),
        ("global_pooling: true stride: 2", (1, 2, 4, 5, 7), "takes no kernel, a stride of 1"),
        ("kernel_size: 2 kernel_depth: 2 pad: 1", (1, 2, 4, 5, 7), "MAX pooling cannot be padded"),
        ("kernel_size: 2 kernel_depth: 2", (1, 2, 5, 7), "must have 5 axes"),
        ("kernel_size: 2 kernel_depth: 2 pool: STOCHASTIC", (1, 2, 4, 5, 7), "STOCHASTIC"),
        ("kernel_size: 2 kernel_depth: 2 global_pooling: true", (1, 2, 4, 5, 7), "global_pooling"),
    ],
)
def test_refuses(fields: str, shape: tuple[int, ...], message: str) -> None:
    for field in ("pooling3d_param", "pooling_param"):
        text = f'type: "Pooling3D" {field} {{ {fields} }}'
        assert message in str(layer_error(text, [shape]))
