"""Learned arrays in half precision: half the size, rounded to 11 significant bits."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from caffe2torch.errors import ArtefactError
from caffe2torch.graph import Array, FloatArray

LARGEST = float(np.finfo(np.float16).max)
"""65504; values beyond it would become infinite."""


def to_half(params: Mapping[str, FloatArray]) -> dict[str, Array]:
    """The arrays as float16, each value rounded to the nearest.

    Raises ArtefactError for a finite value that float16 cannot hold.
    """
    return {key: _half(key, array) for key, array in params.items()}


def _half(key: str, array: FloatArray) -> Array:
    with np.errstate(over="ignore"):
        half: Array = array.astype(np.float16)
    lost = np.isinf(half) & np.isfinite(array)
    if lost.any():
        raise ArtefactError(
            f"the array {key!r} holds {array[lost].flat[0]:g}, and half precision ends at "
            f"{LARGEST:g}. Convert without --half."
        )
    return half
