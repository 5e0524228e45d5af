"""A file in memory that keeps its descriptor, so that the system can copy parts of it."""

from __future__ import annotations

import mmap
import os
import sys
import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from caffe2torch.errors import ReadError

if TYPE_CHECKING:
    from numpy.typing import NDArray

PIECE = 1 << 27
_POPULATE_READ = 22
"""Linux's MADV_POPULATE_READ, which the module mmap does not name."""


class MappedFile(mmap.mmap):
    """A whole file, mapped read-only, and a descriptor of it that stays open with it."""

    descriptor: int

    @classmethod
    def of(cls, file: BinaryIO) -> MappedFile:
        """Map ``file``, which may be closed afterwards; what is mapped already is shared."""
        identity = _identity(file.fileno())
        mapped = _mapped.get(identity)
        if mapped is None:
            mapped = cls(file.fileno(), 0, access=mmap.ACCESS_READ)
            mapped.descriptor = os.dup(file.fileno())
            weakref.finalize(mapped, os.close, mapped.descriptor)
            _mapped[identity] = mapped
        return mapped

    @property
    def identity(self) -> tuple[int, int, int, int]:
        """What tells this state of the file from others."""
        return _identity(self.descriptor)

    def parts(self, start: int, count: int, path: str = "the file") -> Iterator[memoryview]:
        """The bytes of a part of the file, in pieces of its mapped memory.

        Raises ReadError if the file has become shorter: touching a page that it has lost
        would end the process. The pieces are large, because a thread that works on them waits
        for the interpreter between two.
        """
        for begin in range(start, start + count, PIECE):
            yield self.part(begin, min(PIECE, start + count - begin), path)

    def part(self, start: int, count: int, path: str = "the file") -> memoryview:
        """Bytes of the file as its mapped memory. Raises ReadError as ``parts`` does."""
        if os.fstat(self.descriptor).st_size < len(self):
            raise ReadError(f"{path} was changed while it was read; try again")
        return memoryview(self)[start : start + count]

    def populate(self, start: int, count: int) -> None:
        """Bring a part of the file into memory at once, where the system can.

        Elsewhere it comes page by page when it is touched, which takes twice as long.
        """
        if sys.platform == "linux":
            before = start % mmap.PAGESIZE
            with suppress(OSError):  # Linux before 5.14.
                self.madvise(_POPULATE_READ, start - before, before + count)


_mapped: weakref.WeakValueDictionary[tuple[int, int, int, int], MappedFile] = (
    weakref.WeakValueDictionary()
)


def _identity(descriptor: int) -> tuple[int, int, int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


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
