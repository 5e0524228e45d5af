"""Caffe's image databases: LMDBs of Datum messages, raw pixels or encoded files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe2torch.errors import ReadError
from caffe2torch.images import ImageError, Names, decode_image
from caffe2torch.io.files import open_file
from caffe2torch.io.schema import Message, message_class

_MAGIC = 0xBEEFC0DE
_META_BYTES = 152
"""Up to the end of LMDB's header (mdb.c: MDB_meta), of which there are two, a page apart."""


class LmdbSource:
    """The Datums of an LMDB, in the order of their keys. Needs the package ``lmdb``.

    Raises ReadError for a file that is no LMDB, is empty or was cut short.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with _reading(path) as transaction:
            self._keys = Names.gather(transaction.cursor().iternext(values=False))
        if not len(self._keys):
            raise ReadError(f"the LMDB {path} is empty")

    def __len__(self) -> int:
        return len(self._keys)

    def where(self, index: int) -> str:
        """The database and the key."""
        return f"{self.path}, key {self._keys[index].decode('utf-8', 'backslashreplace')!r}"

    def read(self, index: int) -> tuple[npt.NDArray[np.uint8], int]:
        """Parse one Datum; grey images become three equal channels."""
        from google.protobuf.message import DecodeError

        datum = message_class("Datum")()
        with _reading(self.path) as transaction:
            value = transaction.get(self._keys[index])
        try:
            datum.ParseFromString(value)
        except DecodeError as error:
            raise ImageError(f"{self.where(index)} is not a Datum: {error}") from error
        if datum.label < 0:
            raise ImageError(f"{self.where(index)}: label {datum.label} is negative")
        return _datum_to_bgr(datum, self.where(index)), int(datum.label)


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """A transaction of the database."""
    try:
        import lmdb
    except ImportError:
        raise ReadError(
            f'{path}: is an LMDB, which needs lmdb: pip install "caffe2torch[lmdb]"'
        ) from None
    try:
        with _environment(path).begin() as transaction:
            yield transaction
    except lmdb.Error as error:
        raise _unreadable(path, str(error)) from None


@cache
def _environment(path: Path) -> Any:
    """The open database, of which a process may have only one; it stays valid after a fork."""
    import lmdb

    _check(path)
    return lmdb.open(str(path), subdir=path.is_dir(), readonly=True, lock=False)


def _check(path: Path) -> None:
    """Refuse a file that lacks pages, where the library would end the process (SIGBUS)."""
    data = open_file(path / "data.mdb" if path.is_dir() else path)
    if len(data) < _META_BYTES or struct.unpack_from("<I", data, 16)[0] != _MAGIC:
        raise _unreadable(path, "it is no LMDB, or of another kind of machine")
    page = struct.unpack_from("<I", data, 40)[0]
    if not 256 <= page <= len(data) - _META_BYTES:
        raise _unreadable(path, "it was cut short, or is damaged")
    heads = [struct.unpack_from("<H42xQQ", data, start + 92) for start in (0, page)]
    flags, last_page, _ = max(heads, key=lambda head: head[2])  # The one written last.
    size = page * (1 + last_page)
    if len(data) < size:
        raise _unreadable(path, f"it was cut short, to {len(data):,} of {size:,} bytes")
    if flags:
        raise _unreadable(path, "it has several values for a key, which Caffe's have not")


def _unreadable(path: Path, cause: str) -> ReadError:
    return ReadError(f"cannot read the LMDB {path}: {cause}. Copy or make it again.")


def is_lmdb(path: Path) -> bool:
    """Whether a path is an LMDB: a folder with data.mdb in it, or such a file."""
    return (path / "data.mdb").is_file() or (path.is_file() and path.suffix == ".mdb")


def _datum_to_bgr(datum: Message, where: str) -> npt.NDArray[np.uint8]:
    if datum.encoded:
        return decode_image(np.frombuffer(datum.data, np.uint8), where)
    shape = (datum.channels, datum.height, datum.width)
    if datum.channels not in (1, 3) or min(shape) < 1:
        raise ImageError(
            f"{where} is {shape} (channels, height, width): an image has 1 or 3 channels"
        )
    if len(datum.data) != datum.channels * datum.height * datum.width:
        raise ImageError(
            f"{where} holds {len(datum.data)} bytes of pixels, but its shape {shape} needs "
            f"{datum.channels * datum.height * datum.width}"
        )
    pixels = np.frombuffer(datum.data, np.uint8).reshape(shape).transpose(1, 2, 0)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*shape[1:], 3)))
