"""Caffe's image databases: LMDBs of Datum messages, raw pixels or encoded files."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe2torch.errors import ReadError
from caffe2torch.io.schema import Message, message_class
from squeezenet.preprocess import ImageError, decode_bgr


class LmdbSource:
    """The Datums of an LMDB, in the order of their keys. Needs the extra ``lmdb``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._keys = _read_keys(path)

    def __len__(self) -> int:
        return len(self._keys)

    def where(self, index: int) -> str:
        """The database and the key."""
        return f"{self.path}, key {self._keys[index].decode('utf-8', 'backslashreplace')!r}"

    def read(self, index: int) -> tuple[npt.NDArray[np.uint8], int]:
        """Parse one Datum; grey images become three equal channels."""
        from google.protobuf.message import DecodeError

        datum = message_class("Datum")()
        try:
            datum.ParseFromString(self._value(index))
        except DecodeError as error:
            raise ImageError(f"{self.where(index)} is not a Datum: {error}") from error
        if datum.label < 0:
            raise ImageError(f"{self.where(index)}: label {datum.label} is negative")
        return _datum_to_bgr(datum, self.where(index)), int(datum.label)

    def _value(self, index: int) -> bytes:
        import lmdb

        try:
            with _open(self.path).begin() as transaction:
                value = transaction.get(self._keys[index])
        except lmdb.Error as error:
            raise ImageError(f"{self.where(index)} cannot be read: {error}") from error
        if value is None:
            raise ImageError(f"{self.where(index)} has gone: the database was changed")
        return bytes(value)


def _read_keys(path: Path) -> list[bytes]:
    environment = _open(path)
    import lmdb

    try:
        with environment.begin() as transaction, transaction.cursor() as cursor:
            keys = [bytes(key) for key in cursor.iternext(keys=True, values=False)]
    except lmdb.Error as error:
        raise ReadError(f"the LMDB {path} is damaged: {error}") from error
    if not keys:
        raise ReadError(f"the LMDB {path} is empty")
    return keys


def is_lmdb(path: Path) -> bool:
    """Whether a path is an LMDB: a folder with data.mdb in it, or such a file."""
    return (path / "data.mdb").is_file() or (path.is_file() and path.suffix == ".mdb")


@cache
def _open(path: Path) -> Any:
    """The environment, of which a process may have only one.

    Opened read-only and without locks it is no more than mapped memory, which worker
    processes may go on using after a fork.
    """
    try:
        import lmdb
    except ImportError as error:
        raise ReadError(
            f"{path} is an LMDB, and reading one needs the package lmdb: install caffe2torch[lmdb]"
        ) from error
    try:
        return lmdb.open(
            str(path), subdir=path.is_dir(), readonly=True, lock=False, readahead=False
        )
    except lmdb.Error as error:
        raise ReadError(f"cannot open the LMDB {path}: {error}") from error


def _datum_to_bgr(datum: Message, where: str) -> npt.NDArray[np.uint8]:
    if datum.encoded:
        return decode_bgr(np.frombuffer(datum.data, np.uint8), where)
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
