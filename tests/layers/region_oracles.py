"""Caffe's region pooling in plain loops, float32 where Caffe's choice of cells depends on it."""

from __future__ import annotations

from math import ceil, floor

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def c_round(value: float) -> int:
    return int(floor(abs(value) + 0.5) * (1 if value >= 0 else -1))


def roi_pooling(data: Array, regions: Array, pooled: tuple[int, int], scale: float) -> Array:
    channels, height, width = data.shape[1:]
    out = np.zeros((len(regions), channels, *pooled))
    for r, region in enumerate(regions.reshape(len(regions), 5).astype(np.float32)):
        x1, y1, x2, y2 = (c_round(value * np.float32(scale)) for value in region[1:])
        bin_h = np.float32(max(y2 - y1 + 1, 1)) / np.float32(pooled[0])
        bin_w = np.float32(max(x2 - x1 + 1, 1)) / np.float32(pooled[1])
        for i in range(pooled[0]):
            top = min(max(floor(np.float32(i) * bin_h) + y1, 0), height)
            bottom = min(max(ceil(np.float32(i + 1) * bin_h) + y1, 0), height)
            for j in range(pooled[1]):
                left = min(max(floor(np.float32(j) * bin_w) + x1, 0), width)
                right = min(max(ceil(np.float32(j + 1) * bin_w) + x1, 0), width)
                if top < bottom and left < right:
                    window = data[int(region[0]), :, top:bottom, left:right]
                    out[r, :, i, j] = window.max((1, 2))
    return out


def psroi_pooling(data: Array, regions: Array, output_dim: int, group: int, scale: float) -> Array:
    height, width = data.shape[2:]
    out = np.zeros((len(regions), output_dim, group, group))
    one, factor, least = np.float32(1), np.float32(scale), np.float32(0.1)
    for r, region in enumerate(regions.reshape(len(regions), 5).astype(np.float32)):
        x1, y1, x2, y2 = (np.float32(c_round(value)) for value in region[1:])
        x1, y1, x2, y2 = x1 * factor, y1 * factor, (x2 + one) * factor, (y2 + one) * factor
        bin_h = max(y2 - y1, least) / np.float32(group)
        bin_w = max(x2 - x1, least) / np.float32(group)
        for i in range(group):
            top = min(max(floor(np.float32(i) * bin_h + y1), 0), height)
            bottom = min(max(ceil(np.float32(i + 1) * bin_h + y1), 0), height)
            for j in range(group):
                left = min(max(floor(np.float32(j) * bin_w + x1), 0), width)
                right = min(max(ceil(np.float32(j + 1) * bin_w + x1), 0), width)
                for d in range(output_dim):
                    channel = (d * group + i) * group + j
                    window = data[int(region[0]), channel, top:bottom, left:right]
                    out[r, d, i, j] = window.mean() if window.size else 0.0
    return out


def random_regions(rng: np.random.Generator, count: int, images: int, extent: float) -> Array:
    """Regions inside, across and outside of the image, some inverted, some ending on halves."""
    corners = rng.uniform(-0.4, 1.4, (count, 4)) * extent
    corners[: count // 2] = np.sort(corners[: count // 2].reshape(-1, 2, 2), 1).reshape(-1, 4)
    corners[1::3] = np.round(corners[1::3]) + 0.5
    corners[2::3] = np.round(corners[2::3])
    return np.concatenate([rng.integers(0, images, (count, 1)), corners], 1)
