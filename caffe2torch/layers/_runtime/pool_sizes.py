"""The sizes of pooling, in whole numbers."""

from __future__ import annotations

from collections.abc import Sequence


def pooled_sizes(
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
    ceil: bool,
    drops: bool = True,
) -> list[int]:
    """Output sizes of Caffe's pooling, rounded up or down.

    If either axis is padded, a last window that would start beyond the image and its
    first padding is left out; without padding it is kept, although it may be empty.
    Without ``drops`` (C3D's fork) it is always kept.
    """
    axes = list(zip(sizes, kernel, stride, pad, strict=True))
    outputs = [(n + 2 * p - k + (s - 1 if ceil else 0)) // s + 1 for n, k, s, p in axes]
    if drops and any(pad):
        outputs = [
            o - 1 if (o - 1) * s >= n + p else o
            for o, (n, _, s, p) in zip(outputs, axes, strict=True)
        ]
    return outputs


def pool_divisors(
    sizes: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    pad: Sequence[int],
    ceil: bool,
    drops: bool = True,
) -> list[list[int]]:
    """The size of each window on each axis, clipped to the image padded on both sides.

    Their product is what average pooling divides by. It is zero or negative for
    windows that lie outside the image.
    """
    outputs = pooled_sizes(sizes, kernel, stride, pad, ceil, drops)
    return [
        [min(k, n + 2 * p - i * s) for i in range(o)]
        for o, n, k, s, p in zip(outputs, sizes, kernel, stride, pad, strict=True)
    ]


def pyramid_window(
    bins: int, sizes: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Kernel, which is the stride too, and pad of a level of ``bins`` on each axis."""
    kernel = tuple(-(-n // bins) for n in sizes)
    pad = tuple((k * bins - n + 1) // 2 for k, n in zip(kernel, sizes, strict=True))
    return kernel, pad
