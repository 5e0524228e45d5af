"""Files: mapped into memory, known by their first bytes, and archives looked over first."""

from __future__ import annotations

import codecs
import mmap
import os
import stat
import sys
import weakref
import zipfile
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO

from caffe2torch.errors import ReadError

if TYPE_CHECKING:
    from numpy.typing import NDArray

Source = str | os.PathLike[str] | bytes
"""A file by its path, or the content of one."""
Buffer = bytes | mmap.mmap
"""The content of a file."""

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"

_SIGNATURES = (
    (HDF5_SIGNATURE, "an HDF5 file"),
    (
        b"PK\x03\x04",
        "a ZIP archive (unpack it first; PyTorch's .pt and .pth are such archives too)",
    ),
    (b"\x80\x02", "a Python pickle, as old PyTorch and numpy files are"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x1f\x8b", "a gzip archive (unpack it first)"),
    (b"BZh", "a bzip2 archive (unpack it first)"),
    (b"\xfd7zXZ\0", "an xz archive (unpack it first)"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive (unpack it first)"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive (unpack it first)"),
    (b"Rar!\x1a", "a RAR archive (unpack it first)"),
    (b"version https://git-lfs", "a Git LFS pointer (run 'git lfs pull' for the file itself)"),
    (b"\x93NUMPY", "a numpy .npy file"),
)
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # Before UTF-16, whose mark it begins with.
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_HEAD = 4096
PIECE = 1 << 27
"""Bytes to work on at a time: many, as a thread waits for the interpreter between two pieces."""
_POPULATE_READ = 22
"""Linux's MADV_POPULATE_READ, which the module mmap does not name."""
_FLOOR = 64 << 20
"""Bytes that any archive may unpack to."""


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

    def part(self, start: int, count: int, path: str = "the file") -> memoryview:
        """Bytes of the file as its mapped memory, fewer than ``count`` at its end.

        Raises ReadError if the file has become shorter: touching a page that it has lost
        would end the process.
        """
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


def name_of(source: Source) -> str:
    """What to call ``source`` in messages."""
    return "the buffer" if isinstance(source, bytes) else os.fspath(source)


def open_file(path: Source) -> mmap.mmap | bytes:
    """Map a whole file, read-only. The map outlives the file's name and its descriptor.

    The map is of the file, not of its content at this moment. Replace a file that may be in
    use (a rename), do not write into it: what is read would change, and where it was cut
    short the system ends the process that reads beyond its end (SIGBUS).

    The content of a file is given back as it is.
    """
    if isinstance(path, bytes):
        if not path:
            raise ReadError("the buffer is empty; give the content of a file")
        return path
    try:
        status = os.stat(path)  # Before it is opened, where a pipe would wait for a writer.
        if stat.S_ISDIR(status.st_mode):
            raise ReadError(f"{path}: is a directory; give the path of a file")
        if not stat.S_ISREG(status.st_mode):
            raise ReadError(f"{path}: is not a regular file; give the path of a file")
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise ReadError(f"{path}: the file is empty; download or copy it again")
            return MappedFile.of(file)
    except FileNotFoundError:
        raise ReadError(f"{path}: there is no such file; check the path") from None
    except (OSError, ValueError) as error:
        raise ReadError(f"{path}: cannot be opened: {error}") from None


def other_kind(head: bytes) -> str | None:
    """What a file is, by its first bytes, if it is surely of no kind that Caffe writes."""
    for signature, kind in _SIGNATURES:
        if head.startswith(signature):
            return kind
    start = head[:_HEAD].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return "an HTML page, probably an error or a preview page saved in place of the file"
    return _protobuf_kind(head)


def _protobuf_kind(head: bytes) -> str | None:
    """Other protobuf messages start with a number, a net always with a string or a message."""
    if len(head) < 3 or head[0] != 0x08:
        return None
    if head[1] < 0x20 and head[2] in (0x12, 0x1A, 0x22, 0x2A, 0x32, 0x3A, 0x42):
        return "an ONNX model (or a Caffe solver state)"
    if head[1] < 0x80 and head[2] == 0x10:
        return "a single blob, as a mean image (.binaryproto) is"
    return "a Caffe solver state; the weights are in the .caffemodel beside it"


def text_of(data: bytes, source: str, errors: str = "strict") -> str:
    """The text in ``data``: UTF-8, or what its byte order mark says, UTF-16 or UTF-32.

    ``errors`` is for what is not UTF-8, as of ``bytes.decode``.

    Raises ReadError for a text in none of them.
    """
    mark, encoding = next(
        (pair for pair in _BYTE_ORDER_MARKS if data.startswith(pair[0])), (b"", "")
    )
    if not encoding:  # Without a mark, every second byte of ASCII in UTF-16 is 0.
        encoding = "utf-8"
        for odd, wide in ((1, "utf-16-le"), (0, "utf-16-be")):
            if data[1:_HEAD] and not any(data[odd:_HEAD:2]) and all(data[1 - odd : _HEAD : 2]):
                encoding = wide
    try:
        return data[len(mark) :].decode(encoding, errors if encoding == "utf-8" else "strict")
    except UnicodeDecodeError as error:
        raise ReadError(
            f"{source}: is not {encoding.upper()} text (byte {error.start + len(mark)}: "
            f"{error.reason}); save it in UTF-8"
        ) from None


def is_text(head: bytes) -> bool:
    """Whether the first bytes are text: no control characters but white space."""
    return not any(byte < 0x20 and byte not in b"\t\n\r\f\v" for byte in head[:_HEAD])


def check_archive(path: str | os.PathLike[str], max_ratio: int) -> None:
    """Raise ReadError unless the files in the archive are whole and can be held in memory.

    Together they may have ``max_ratio`` times the bytes of the archive. With 1 they must be
    stored uncompressed, as PyTorch stores them.
    """
    try:
        size = os.path.getsize(path)
        with zipfile.ZipFile(path) as archive:
            files = archive.infolist()
    except Exception as error:  # zipfile raises many kinds; whatever it is, the file is bad.
        raise ReadError(f"{path}: the ZIP archive is truncated or corrupt ({error})") from None
    unpacked = sum(file.file_size for file in files)
    packed = max_ratio == 1 and any(file.compress_type != zipfile.ZIP_STORED for file in files)
    limit = size if max_ratio == 1 else max(_FLOOR, max_ratio * size)
    if packed or unpacked > limit:
        raise ReadError(
            f"{path}: the ZIP archive of {size:,} bytes would unpack to {unpacked:,}; no such "
            "file is made by saving arrays"
        )
