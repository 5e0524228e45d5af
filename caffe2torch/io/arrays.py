"""Arrays to a file without a copy of the net in memory, and headers that are known last."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import BinaryIO, cast

import numpy as np

from caffe2torch.errors import ArtefactError
from caffe2torch.graph import Array, FloatArray
from caffe2torch.io.files import MappedFile, place_in_file

CHUNK = 1 << 18
"""Bytes copied at a time where an array cannot be written from its own memory."""
BUFFER = 1 << 19
"""Bytes written at a time from a mapped file."""

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
        shutil.copyfileobj(whole, file, BUFFER)


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

    An array that is a part of a mapped file is written in pieces; others from their memory, or
    in pieces where that cannot be written as it is.
    """
    stored = "<f2" if array.dtype == np.float16 else "<f4"
    if array.flags.c_contiguous and array.dtype == stored:
        place = place_in_file(array)
        if place is not None:
            _copy(file, *place, array.nbytes, progress)
        else:
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


def _copy(file: BinaryIO, source: MappedFile, offset: int, count: int, progress: Progress) -> None:
    """Write ``count`` bytes of ``source`` from ``offset`` on.

    In pieces that begin in ``file`` where pages do, this is faster than the system's own copy
    (copy_file_range, sendfile): arrays in a caffemodel lie at odd offsets.
    """
    room = BUFFER - file.tell() % BUFFER
    end = offset + count
    while offset < end:
        size = min(room, end - offset)
        source.populate(offset, size)
        file.write(source.part(offset, size))
        progress(size)
        offset += size
        room = BUFFER


def to_half(params: Mapping[str, FloatArray]) -> dict[str, Array]:
    """The arrays as float16, each value rounded to the nearest; one array for what was one.

    Raises ArtefactError for a finite value that float16 cannot hold.
    """
    halves: dict[int, Array] = {}
    for key, array in params.items():
        if id(array) not in halves:
            halves[id(array)] = _half(key, array)
    return {key: halves[id(array)] for key, array in params.items()}


def _half(key: str, array: FloatArray) -> Array:
    with np.errstate(over="ignore"):
        half: Array = array.astype(np.float16)
    lost = np.isinf(half) & np.isfinite(array)
    if lost.any():
        raise ArtefactError(
            f"the array {key!r} holds {array[lost].flat[0]:g}, and half precision ends at "
            f"{np.finfo(np.float16).max:g}. Convert without --half."
        )
    return half
