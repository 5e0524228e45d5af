"""A file in memory that keeps its descriptor, so that the system can copy parts of it."""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from caffe2torch.errors import ReadError

if TYPE_CHECKING:
    from numpy.typing import NDArray

PIECE = 1 << 25


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

    @property
    def identity(self) -> tuple[int, int, int, int]:
        """What tells this state of the file from others."""
        status = os.fstat(self.descriptor)
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns

    def parts(self, start: int, count: int, path: str = "the file") -> Iterator[memoryview]:
        """The bytes of a part of the file, in pieces of its mapped memory.

        Raises ReadError if the file has become shorter: touching a page that it has lost
        would end the process. The pieces are large, because a thread that works on them waits
        for the interpreter between two.
        """
        end = start + count
        for begin in range(start, end, PIECE):
            if os.fstat(self.descriptor).st_size < len(self):
                raise ReadError(f"{path} was changed while it was read; try again")
            yield memoryview(self)[begin : min(begin + PIECE, end)]


def place_in_file(array: NDArray[Any]) -> tuple[MappedFile, int] | None:
    """The mapped file that holds the memory of a contiguous ``array``, and where in it."""
    import numpy as np

    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    if not isinstance(base, MappedFile):
        return None
    start = np.frombuffer(base, np.uint8).ctypes.data
    return base, array.ctypes.data - start
