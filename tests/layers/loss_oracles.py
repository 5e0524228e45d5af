"""What the float64 forms of the losses share."""

from __future__ import annotations

import math

import numpy as np


def rows(x: np.ndarray, axis: int) -> np.ndarray:
    """``x`` as (positions, classes), the positions in memory order of the other axes."""
    return np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def divisor(mode: str, shape: tuple[int, ...], axis: int, valid: int) -> int:
    batch, full = math.prod(shape[:axis]), math.prod(shape) // shape[axis]
    return max(1, {"FULL": full, "VALID": valid, "BATCH_SIZE": batch, "NONE": 1}[mode])


MODES = [
    ("normalization: VALID", "VALID"),
    ("normalization: FULL", "FULL"),
    ("normalization: BATCH_SIZE", "BATCH_SIZE"),
    ("normalization: NONE", "NONE"),
    ("normalize: true", "VALID"),
    ("normalize: false", "BATCH_SIZE"),
    ("normalize: false normalization: FULL", "FULL"),
]
"""Fields of loss_param and the mode that they mean."""
