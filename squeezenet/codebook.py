"""Weight sharing: the k-means of one-dimensional values, exact in its steps and seedless."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

ROUNDS = 100
"""Lloyd's steps at most; 256 clusters of weights are still after some dozens."""


def cluster(values: NDArray[np.floating[Any]], count: int) -> NDArray[np.float32]:
    """At most ``count`` centres for ``values``, ascending: a local optimum of the squared error.

    Lloyd's algorithm, from centres that stand half evenly over the range and half evenly
    among the values: large weights are few and matter, small ones are many. On sorted values
    a cluster is an interval, so a step takes two searches and a sum. No more distinct values
    than ``count`` are their own centres.
    """
    ordered = np.sort(values.astype(np.float64), axis=None)
    distinct = np.unique(ordered)
    if len(distinct) <= count:
        return distinct.astype(np.float32)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centres = _first_centres(ordered, count)
    for _ in range(ROUNDS):
        ends = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        bounds = np.concatenate([[0], ends, [len(ordered)]])
        sizes = np.diff(bounds)
        means = np.diff(sums[bounds]) / np.maximum(sizes, 1)
        moved = np.sort(np.where(sizes > 0, means, centres))
        if np.array_equal(moved, centres):
            break
        centres = moved
    used = np.unique(np.searchsorted((centres[1:] + centres[:-1]) / 2, ordered))
    return np.unique(centres[used].astype(np.float32))


def nearest(values: NDArray[np.floating[Any]], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    """The index of the nearest of ``centres``, which ascend, for each value."""
    middles = (centres[1:].astype(np.float64) + centres[:-1]) / 2
    return np.searchsorted(middles, values).astype(np.int64)


def _first_centres(ordered: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    even = np.linspace(ordered[0], ordered[-1], count // 2)
    dense = np.quantile(ordered, (np.arange(count - len(even)) + 0.5) / (count - len(even)))
    return np.sort(np.concatenate([even, dense]))
