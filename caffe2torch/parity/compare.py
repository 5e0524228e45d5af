"""Compare the blobs of two engines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from caffe2torch.errors import ParityError
from caffe2torch.graph import Array

RELATIVE_TOLERANCE = 1e-4
"""Of the blob's peak: fifty times what float32 engines differ by on whole nets (2e-6)."""
ABSOLUTE_FLOOR = 1e-6
"""Added to every tolerance, for blobs of values near zero."""


@dataclass
class BlobDifference:
    """The largest difference over all batches of one blob between two engines."""

    blob: str
    max_abs: float = 0.0
    peak: float = 0.0

    @property
    def max_rel(self) -> float:
        """The difference as a part of the blob's largest value."""
        return self.max_abs / self.peak if self.peak else float(self.max_abs > 0)

    def add(self, reference: Array, other: Array) -> None:
        """Take one more batch into account. Raises ParityError if the shapes differ."""
        if reference.size != other.size:
            raise ParityError(
                f"the blob {self.blob!r} has the shape {reference.shape} in one engine and "
                f"{other.shape} in the other."
            )
        first, second = reference.reshape(-1), other.reshape(-1)
        same = (first == second) | (np.isnan(first) & np.isnan(second))
        with np.errstate(invalid="ignore"):
            difference = np.where(same, 0, np.abs(first - second))
        worst = float(np.max(difference, initial=0))
        self.max_abs = float("inf") if np.isnan(worst) else max(self.max_abs, worst)
        self.peak = max(self.peak, float(np.abs(first[np.isfinite(first)]).max(initial=0)))

    def exceeds(self, tolerance: float | None) -> bool:
        """Whether the difference is above ``tolerance`` (absolute), or above the default."""
        if tolerance is None:
            return self.max_abs > RELATIVE_TOLERANCE * self.peak + ABSOLUTE_FLOOR
        return self.max_abs > tolerance


@dataclass
class Agreement:
    """How often two engines agree on the classes of the logits."""

    images: int = 0
    top1: int = 0
    top5: int = 0

    def add(self, reference: Array, other: Array) -> None:
        """Take one more batch of logits (N, classes) into account."""
        ours, theirs = (_ranked(scores) for scores in (reference, other))
        self.images += len(ours)
        self.top1 += int(np.sum(ours[:, 0] == theirs[:, 0]))
        self.top5 += sum(set(a) == set(b) for a, b in zip(ours, theirs, strict=True))


@dataclass
class Score:
    """How often the true class is the first, or among the first five, of one engine."""

    images: int = 0
    top1: int = 0
    top5: int = 0

    def add(self, logits: Array, labels: Sequence[int]) -> None:
        """Take one more batch of logits (N, classes) into account."""
        for ranked, label in zip(_ranked(logits), labels, strict=True):
            self.images += 1
            self.top1 += int(ranked[0] == label)
            self.top5 += int(label in ranked)


def common_blobs(
    order: Sequence[str], first: Mapping[str, Array], second: Mapping[str, Array]
) -> list[str]:
    """The blobs that both engines show, in the order of the net."""
    return [blob for blob in order if blob in first and blob in second]


def _ranked(logits: Array) -> Array:
    flat = logits.reshape(len(logits), -1)
    return np.argsort(-flat, axis=1, kind="stable")[:, :5]
