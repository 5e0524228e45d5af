"""Files: opened by memory map, and known by their first bytes when they are of another kind."""

from __future__ import annotations

import mmap
import os
import stat

from caffe2torch.errors import ReadError
from caffe2torch.io.mapped import MappedFile

Source = str | os.PathLike[str] | bytes
"""A file by its path, or the content of one."""

HDF5_SIGNATURE = b"\x89HDF\r\n\x1a\n"

_SIGNATURES = (
    (HDF5_SIGNATURE, "an HDF5 file"),
    (b"PK\x03\x04", "a ZIP archive, as PyTorch's .pt and .pth files are"),
    (b"\x80\x02", "a Python pickle, as old PyTorch and numpy files are"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x1f\x8b", "a gzip archive; unpack it first"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself; run 'git lfs pull'"),
    (b"\x93NUMPY", "a numpy .npy file"),
)
_HEAD = 4096


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


def is_text(head: bytes) -> bool:
    """Whether the first bytes are text: no control characters but white space."""
    return not any(byte < 0x20 and byte not in b"\t\n\r\f\v" for byte in head[:_HEAD])
