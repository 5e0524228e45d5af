"""The learned blobs that a weights file (or the net itself) offers, by layer name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.wire import Blob


@dataclass(frozen=True)
class BlobSource:
    """Blobs in file order: a layer name may occur again, and Caffe lets the last win.

    ``path`` is for messages. ``given`` says that there is a weights file at all.
    """

    path: str = ""
    entries: Sequence[tuple[str, Sequence[Blob]]] = field(default_factory=tuple)
    given: bool = False


def as_float32(blob: Blob, shape: Shape) -> FloatArray:
    """The blob's values in ``shape``: the file's own memory where it holds float32."""
    return np.asarray(blob.data, dtype="<f4").reshape(shape)
