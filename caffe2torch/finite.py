"""Weights that are not numbers: a net that Caffe runs and that is probably not meant."""

from __future__ import annotations

import warnings

import numpy as np

from caffe2torch.errors import Caffe2TorchWarning
from caffe2torch.graph import FloatArray, Graph

BLOCK = 1 << 20
"""Values looked at together."""


def warn_not_finite(graph: Graph) -> None:
    """Warn of each learned array that holds NaN or infinities: the layer, and how many.

    It reads all values, which takes about as long as reading the file does; converting does
    not look, and passes such values on as they are.
    """
    owner = {key: (n.layer, name) for n in graph.nodes for name, key in n.params.items()}
    for key, array in graph.params.items():
        nan, infinite = _count(array)
        if nan or infinite:
            layer, name = owner[key]
            warnings.warn(
                f"layer {layer.name!r} ({layer.type}): its {name} holds {nan} NaN and {infinite} "
                f"infinite values of {array.size}; Caffe computes with them, and so do we",
                Caffe2TorchWarning,
                stacklevel=2,
            )


def _count(array: FloatArray) -> tuple[int, int]:
    """How many values are NaN, and how many infinite."""
    nan = infinite = 0
    for block in np.nditer(
        array, ["external_loop", "buffered", "zerosize_ok"], order="K", buffersize=BLOCK
    ):
        if not np.isfinite(block).all():
            nan += int(np.isnan(block).sum())
            infinite += int(np.isinf(block).sum())
    return nan, infinite
