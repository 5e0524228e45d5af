"""A file in memory that keeps its descriptor, so that the system can copy parts of it."""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from caffe2torch.errors import ReadError

PIECE = 1 << 20


class MappedFile(mmap.mmap):
    """A whole file, mapped read-only, and a descriptor of it that stays open with it."""

    descriptor: int

    @classmethod
    def of(cls, file: BinaryIO) -> MappedFile:
        """Map ``file``, which may be closed afterwards."""
        mapped = cls(file.fileno(), 0, access=mmap.ACCESS_READ)
        mapped.descriptor = os.dup(file.fileno())
        weakref.finalize(mapped, os.close, mapped.descriptor)
        return mapped

    def parts(self, start: int, count: int, path: str = "the file") -> Iterator[bytes]:
        """The bytes of a part of the file, read from it a piece at a time.

        Touched in memory instead, a page that a shrinking file has lost would end the
        process. Raises ReadError if the file has become shorter.
        """
        for begin in range(start, start + count, PIECE):
            size = min(PIECE, start + count - begin)
            if hasattr(os, "pread"):
                part = os.pread(self.descriptor, size, begin)
            else:
                part = self[begin : begin + size]
            if len(part) != size:
                raise ReadError(f"{path} was changed while it was read; try again")
            yield part


def place_in_file(array: NDArray[Any]) -> tuple[MappedFile, int] | None:
    """The mapped file that holds the memory of a contiguous ``array``, and where in it."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    if not isinstance(base, MappedFile):
        return None
    start = np.frombuffer(base, np.uint8).ctypes.data
    return base, array.ctypes.data - start
