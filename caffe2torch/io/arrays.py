"""Arrays to a file without a copy of the net in memory, and headers that are known last."""

from __future__ import annotations

import errno
import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

import numpy as np

from caffe2torch.errors import ReadError
from caffe2torch.graph import FloatArray
from caffe2torch.io.mapped import MappedFile, place_in_file

CHUNK = 1 << 18
"""Bytes copied at a time where an array cannot be written from its own memory."""
COPY = 1 << 25
"""Bytes that the system copies at a time from file to file."""
_NO_COPY = {
    getattr(errno, name)
    for name in ("EXDEV", "EINVAL", "ENOSYS", "EOPNOTSUPP", "EBADF", "ETXTBSY", "EPERM")
    if hasattr(errno, name)
}

Progress = Callable[[int], None]
"""Told of bytes that have been written."""


def ignore(count: int) -> None:
    """Make no use of progress."""


@contextmanager
def seekable(file: BinaryIO) -> Iterator[BinaryIO]:
    """A file that can be written out of order and ends up in ``file``, which may be a pipe."""
    if file.seekable():
        yield file
        return
    with tempfile.TemporaryFile() as whole:
        yield cast(BinaryIO, whole)
        whole.seek(0)
        shutil.copyfileobj(whole, file, COPY)


@contextmanager
def header_last(file: BinaryIO, draft: bytes, final: Callable[[], bytes]) -> Iterator[None]:
    """Leave room for ``draft``, and write ``final``, as long, there when the block ends."""
    start = file.tell()
    file.seek(start + len(draft))
    yield
    end = file.tell()
    header = final()
    assert len(header) == len(draft)
    file.seek(start)
    file.write(header)
    file.seek(end)


def write_array(file: BinaryIO, array: FloatArray, progress: Progress = ignore) -> None:
    """Write ``array`` in C order, as float16 if it is, else as float32.

    An array that is a part of a mapped file is copied by the system, without passing through
    this process; others are written from their own memory, or in pieces.
    """
    stored = "<f2" if array.dtype == np.float16 else "<f4"
    if array.flags.c_contiguous and array.dtype == stored:
        place = place_in_file(array)
        if array.size and not (place and _copied(file, *place, array.nbytes, progress)):
            file.write(array.reshape(-1).view(np.uint8).data)
            progress(array.nbytes)
        return
    if array.ndim > 1 and array[0].nbytes > CHUNK:
        for row in array:
            write_array(file, row, progress)
        return
    rows = max(1, CHUNK // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        part = np.ascontiguousarray(array[start : start + rows], stored)
        file.write(part.tobytes())
        progress(part.nbytes)


def _copied(
    file: BinaryIO, source: MappedFile, offset: int, count: int, progress: Progress
) -> bool:
    """Copy a part of ``source`` to where ``file`` stands; False if the system cannot."""
    if not hasattr(os, "copy_file_range"):
        return False
    try:
        target = file.fileno()
    except (OSError, io.UnsupportedOperation):
        return False
    position = file.tell()
    file.flush()
    done = 0
    while done < count:
        size = min(COPY, count - done)
        try:
            moved = os.copy_file_range(
                source.descriptor, target, size, offset + done, position + done
            )
        except OSError as error:
            if error.errno in _NO_COPY and not done:
                return False
            raise
        if not moved:
            raise ReadError("the file with the weights was changed while it was read; try again")
        done += moved
        progress(moved)
    file.seek(position + count)
    return True
