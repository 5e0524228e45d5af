"""Caffe's sliding windows in float64, by loops over output positions and kernel elements."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Sizes = Sequence[int]


def cpp_quotient(a: int, b: int) -> int:
    return int(np.trunc(a / b))


def positions(sizes: Sizes) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(range(n) for n in sizes))


def convolution_sizes(sizes: Sizes, kernel: Sizes, stride: Sizes, pad: Sizes, dil: Sizes) -> Sizes:
    return [
        cpp_quotient(n + 2 * p - (d * (k - 1) + 1), s) + 1
        for n, k, s, p, d in zip(sizes, kernel, stride, pad, dil, strict=True)
    ]


def _pixel(output: Sizes, element: Sizes, stride: Sizes, pad: Sizes, dil: Sizes) -> list[int]:
    terms = zip(output, stride, element, dil, pad, strict=True)
    return [o * s + k * d - p for o, s, k, d, p in terms]


def columns(x: Array, kernel: Sizes, stride: Sizes, pad: Sizes, dil: Sizes) -> Array:
    """(N, C, *kernel, *output) of an x (N, C, *spatial)."""
    sizes = x.shape[2:]
    outputs = convolution_sizes(sizes, kernel, stride, pad, dil)
    result = np.zeros((*x.shape[:2], *kernel, *outputs))
    for k in positions(kernel):
        for o in positions(outputs):
            pixel = [
                a * s + b * d - p for a, s, b, d, p in zip(o, stride, k, dil, pad, strict=True)
            ]
            if all(0 <= i < n for i, n in zip(pixel, sizes, strict=True)):
                result[(..., *k, *o)] = x[(..., *pixel)]
    return result


def convolution(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Sizes,
    pad: Sizes,
    dil: Sizes,
    group: int = 1,
) -> Array:
    kernel = weight.shape[2:]
    cols = columns(x, kernel, stride, pad, dil)
    outputs = cols.shape[2 + len(kernel) :]
    cols = cols.reshape(len(x), group, -1, int(np.prod(outputs)))
    rows = weight.reshape(group, len(weight) // group, -1)
    y = np.stack([[rows[g] @ image[g] for g in range(group)] for image in cols])
    y = y.reshape(len(x), len(weight), *outputs)
    return y if bias is None else y + bias.reshape(-1, *[1] * len(outputs))


def deconvolution(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Sizes,
    pad: Sizes,
    dil: Sizes,
    group: int = 1,
) -> Array:
    kernel, sizes = weight.shape[2:], x.shape[2:]
    outputs = [
        s * (n - 1) + d * (k - 1) + 1 - 2 * p
        for n, k, s, p, d in zip(sizes, kernel, stride, pad, dil, strict=True)
    ]
    per_group = weight.shape[1]
    y = np.zeros((len(x), per_group * group, *outputs))
    for c in range(x.shape[1]):
        first = c // (x.shape[1] // group) * per_group
        for k, o in itertools.product(positions(kernel), positions(sizes)):
            pixel = [
                a * s + b * d - p for a, s, b, d, p in zip(o, stride, k, dil, pad, strict=True)
            ]
            if all(0 <= i < n for i, n in zip(pixel, outputs, strict=True)):
                place = (slice(None), slice(first, first + per_group), *pixel)
                y[place] += x[(slice(None), c, *o)][:, None] * weight[(c, slice(None), *k)]
    return y if bias is None else y + bias.reshape(-1, *[1] * len(outputs))


def pooling(
    x: Array,
    kernel: Sizes,
    stride: Sizes = (1, 1),
    pad: Sizes = (0, 0),
    method: str = "MAX",
    ceil: bool = True,
) -> tuple[Array, Array]:
    """Values and mask of an x (N, C, H, W); the mask is Caffe's for MAX only."""
    height, width = x.shape[2:]
    rounded = np.ceil if ceil else np.floor
    outputs = [
        int(rounded((n + 2 * p - k) / s)) + 1
        for n, k, s, p in zip((height, width), kernel, stride, pad, strict=True)
    ]
    if any(pad):
        for axis, n in enumerate((height, width)):
            if (outputs[axis] - 1) * stride[axis] >= n + pad[axis]:
                outputs[axis] -= 1
    y = np.zeros((*x.shape[:2], *outputs))
    mask = np.full(y.shape, -1.0)
    for n, c, i, j in positions(y.shape):
        top, left = i * stride[0] - pad[0], j * stride[1] - pad[1]
        bottom, right = top + kernel[0], left + kernel[1]
        count = (min(bottom, height + pad[0]) - top) * (min(right, width + pad[1]) - left)
        rows = range(max(top, 0), min(bottom, height))
        cells = [(h, w) for h in rows for w in range(max(left, 0), min(right, width))]
        values = [x[n, c, h, w] for h, w in cells]
        if method == "AVE":
            y[n, c, i, j] = sum(values) / count
        elif method == "STOCHASTIC":
            total = sum(values)
            y[n, c, i, j] = sum(v * v for v in values) / total if total > 0 else 0
        elif values:
            best = int(np.argmax(values))
            y[n, c, i, j] = values[best]
            mask[n, c, i, j] = cells[best][0] * width + cells[best][1]
        else:
            y[n, c, i, j] = np.finfo(np.float32).min
    return y, mask
