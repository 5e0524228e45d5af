"""How far two results for the same blobs are apart."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from caffe2torch.graph import Array

RELATIVE_TOLERANCE = 1e-4
"""Of the blob's peak: fifty times what float32 engines differ by on whole nets (2e-6)."""
ABSOLUTE_FLOOR = 1e-6
"""Added to every tolerance, for blobs of values near zero."""
MARK = np.finfo(np.float32).max
"""Caffe's mark of what has no value (FLT_MAX), such as the maximum of nothing: no peak."""
HUGE = float(MARK) / 1000
"""In sums of values from here to the mark, the order decides whether they overflow."""
SAMPLE = 1000
"""Pairs of logits that are kept of two engines: enough for a plot, whatever the images."""


@dataclass
class BlobDifference:
    """The largest difference over all batches of one blob between two engines.

    ``detections`` says that its rows are (image, label, score, box): of those with equal
    scores, the order is of no account.
    """

    blob: str
    max_abs: float = 0.0
    peak: float = 0.0
    detections: bool = False

    @property
    def max_rel(self) -> float:
        """The difference as a part of the blob's largest value."""
        return self.max_abs / self.peak if self.peak else float(self.max_abs > 0)

    def add(self, reference: Array, other: Array) -> None:
        """Take one more batch into account; arrays of different sizes differ infinitely."""
        first, second = reference.reshape(-1), other.reshape(-1)
        worst = float("inf")
        if first.size == second.size:
            if self.detections:
                second = matched_detections(reference, other).reshape(-1)
            worst = float(np.max(_difference(first, second), initial=0))
        self.max_abs = float("inf") if np.isnan(worst) else max(self.max_abs, worst)
        sizes = np.abs(first)
        self.peak = max(self.peak, float(sizes[sizes < MARK].max(initial=0)))

    def merge(self, other: BlobDifference) -> None:
        """Take the difference of other batches of the same blob into account."""
        self.max_abs = max(self.max_abs, other.max_abs)
        self.peak = max(self.peak, other.peak)

    def limit(self, tolerance: float | None, relative: float = RELATIVE_TOLERANCE) -> float:
        """What passes at most: ``tolerance`` (absolute), or else ``relative`` of the peak."""
        if tolerance is None:
            return relative * self.peak + ABSOLUTE_FLOOR
        return tolerance

    def exceeds(self, tolerance: float | None, relative: float = RELATIVE_TOLERANCE) -> bool:
        """Whether the difference is above the ``limit``."""
        return self.max_abs > self.limit(tolerance, relative)


def may_overflow(array: Array) -> bool:
    """Whether values are so large that engines may disagree on which become infinite."""
    sizes = np.abs(array)
    return bool(np.any((sizes > HUGE) & (sizes < MARK)))


DETECTION = 7
"""Values of a row of detections: image, label, score, and the four edges of a box."""


def is_detections(shape: Sequence[int], free_axes: Container[int]) -> bool:
    """Whether a blob of ``shape`` is a list of detections, (1, 1, K, 7) with K open."""
    return len(shape) == 4 and shape[3] == DETECTION and 2 in free_axes


def matched_detections(reference: Array, other: Array) -> Array:
    """``other`` with detections of equal scores in the order in which ``reference`` has them.

    Both are (1, 1, K, 7). Where images, labels or scores are not the same, row by row,
    ``other`` stays as it is.
    """
    rows, others = reference.reshape(-1, DETECTION), other.reshape(-1, DETECTION)
    near = RELATIVE_TOLERANCE * float(np.max(np.abs(rows[:, 2]), initial=0)) + ABSOLUTE_FLOOR
    if not np.array_equal(rows[:, :2], others[:, :2]):
        return other
    if not np.all(_difference(rows[:, 2], others[:, 2]) <= near):
        return other
    order = []
    free = np.ones(len(others), bool)
    for row in rows:
        equal = (others[:, :2] == row[:2]).all(1) & (np.abs(others[:, 2] - row[2]) <= near)
        candidates = np.flatnonzero(free & equal)
        if not len(candidates):
            return other
        distances = _difference(others[candidates, 3:], row[3:]).max(axis=1)
        order.append(candidates[np.argmin(np.nan_to_num(distances, nan=np.inf))])
        free[order[-1]] = False
    return others[order].reshape(other.shape)


def worst_item(reference: Array, other: Array) -> int:
    """The index along the first axis at which two arrays differ most."""
    items = len(np.atleast_1d(reference))
    first, second = (array.reshape(items, -1) for array in (reference, other))
    by_item = np.max(_difference(first, second), axis=1, initial=0)
    return int(np.argmax(np.where(np.isnan(by_item), np.inf, by_item)))


def _difference(first: Array, second: Array) -> Array:
    """|first - second|, where two infinities of one sign, or two NaN, are equal."""
    with np.errstate(invalid="ignore", over="ignore"):
        found: Array = np.abs(first - second)
    odd = np.isnan(found)
    if not odd.any():
        return found
    same = (first == second) | (np.isnan(first) & np.isnan(second))
    return np.where(odd & same, 0, found)


def in_float32_range(array: Array) -> Array:
    """float64, infinite where a float32 would be; what has no value has Caffe's mark again."""
    largest = np.finfo(np.float32).max
    outside = np.where(np.abs(array) == np.finfo(np.float64).max, largest, np.inf)
    return np.where(np.abs(array) > largest, np.copysign(outside, array), array)


@dataclass
class Count:
    """Of how many images the first, and the first five, classes are those that were wanted."""

    images: int = 0
    top1: int = 0
    top5: int = 0


class Agreement(Count):
    """How often two engines agree on the classes of the logits."""

    def add(self, reference: Array, other: Array) -> None:
        """Take one more batch of logits (N, classes) into account."""
        ours, theirs = (ranked(scores) for scores in (reference, other))
        self.images += len(ours)
        self.top1 += int(np.sum(ours[:, 0] == theirs[:, 0]))
        self.top5 += sum(set(a) == set(b) for a, b in zip(ours, theirs, strict=True))


class Score(Count):
    """How often the true class is the first, or among the first five, of one engine."""

    def add(self, logits: Array, labels: Sequence[int]) -> None:
        """Take one more batch of logits (N, classes) into account."""
        for row, label in zip(ranked(logits), labels, strict=True):
            self.images += 1
            self.top1 += int(row[0] == label)
            self.top5 += int(label in row)


@dataclass
class LogitSample:
    """Pairs of logits (baseline, engine) at even steps through all batches.

    Every ``stride``-th of the ``seen`` values is kept; the stride doubles whenever more than
    ``SAMPLE`` pairs are.
    """

    stride: int = 1
    seen: int = 0
    pairs: Array = field(default_factory=lambda: np.empty((0, 2), np.float32))

    def add(self, reference: Array, other: Array) -> None:
        """Take one more batch into account; both arrays have the same number of values."""
        start = -self.seen % self.stride
        columns = [array.reshape(-1)[start :: self.stride] for array in (reference, other)]
        self.seen += reference.size
        self.pairs = np.concatenate([self.pairs, np.stack(columns, axis=1)])
        while len(self.pairs) > SAMPLE:
            self.pairs = self.pairs[::2].copy()
            self.stride *= 2


def common_blobs(
    order: Sequence[str], first: Mapping[str, Array], second: Mapping[str, Array]
) -> list[str]:
    """The blobs that both engines show, in the order of the net."""
    return [blob for blob in order if blob in first and blob in second]


def ranked(logits: Array) -> Array:
    """The five best classes of each item of logits (N, classes), best first: (N, 5)."""
    flat = logits.reshape(len(logits), -1)
    return np.argsort(-flat, axis=1, kind="stable")[:, :5]
