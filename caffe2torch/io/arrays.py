"""Arrays to a file without a copy of the net in memory."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np

from caffe2torch.graph import FloatArray

CHUNK = 1 << 18
"""Bytes copied at a time where an array cannot be written from its own memory."""


def write_array(file: BinaryIO, array: FloatArray) -> None:
    """Write ``array`` in C order, as float16 if it is, else as float32.

    It is written from its own memory if it can be.
    """
    stored = "<f2" if array.dtype == np.float16 else "<f4"
    if array.flags.c_contiguous and array.dtype == stored:
        file.write(array.reshape(-1).view(np.uint8).data if array.size else b"")
        return
    if array.ndim > 1 and array[0].nbytes > CHUNK:
        for row in array:
            write_array(file, row)
        return
    rows = max(1, CHUNK // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        file.write(np.ascontiguousarray(array[start : start + rows], stored).tobytes())
