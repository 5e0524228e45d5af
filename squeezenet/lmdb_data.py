"""Caffe's image databases: LMDBs of Datum messages, raw pixels or encoded files."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from caffe2torch.errors import ReadError
from caffe2torch.io.files import Buffer
from caffe2torch.io.schema import Message, message_class
from squeezenet.lmdb_file import find_records, map_lmdb
from squeezenet.preprocess import ImageError, decode_bgr


class LmdbSource:
    """The Datums of an LMDB, in the order of their keys."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._records = find_records(_map(path), path)
        if not len(self._records):
            raise ReadError(f"the LMDB {path} is empty")

    def __len__(self) -> int:
        return len(self._records)

    def where(self, index: int) -> str:
        """The database and the key."""
        key = self._slice(self._records.key_start[index], self._records.key_size[index])
        return f"{self.path}, key {key.decode('utf-8', 'backslashreplace')!r}"

    def read(self, index: int) -> tuple[npt.NDArray[np.uint8], int]:
        """Parse one Datum; grey images become three equal channels."""
        from google.protobuf.message import DecodeError

        datum = message_class("Datum")()
        value = self._slice(self._records.value_start[index], self._records.value_size[index])
        try:
            datum.ParseFromString(value)
        except DecodeError as error:
            raise ImageError(f"{self.where(index)} is not a Datum: {error}") from error
        if datum.label < 0:
            raise ImageError(f"{self.where(index)}: label {datum.label} is negative")
        return _datum_to_bgr(datum, self.where(index)), int(datum.label)

    def _slice(self, start: np.int64, size: np.int64) -> bytes:
        return _map(self.path)[int(start) : int(start + size)]


@cache
def _map(path: Path) -> Buffer:
    """The mapped file, of which a process needs only one; it stays valid after a fork."""
    return map_lmdb(path)


def is_lmdb(path: Path) -> bool:
    """Whether a path is an LMDB: a folder with data.mdb in it, or such a file."""
    return (path / "data.mdb").is_file() or (path.is_file() and path.suffix == ".mdb")


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
