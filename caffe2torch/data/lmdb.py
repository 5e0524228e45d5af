"""Caffe's image databases: LMDBs of Datum messages, raw pixels or encoded files."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from caffe2torch.errors import ReadError
from caffe2torch.images import Decoder, ImageError, Names, decode_image
from caffe2torch.io.fields import BYTES, VARINT, Fields, signed
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

    def datum(self, index: int) -> Message:
        """One Datum with all its fields. Raises ImageError for a value that is none."""
        from google.protobuf.message import DecodeError

        with _reading(self.path) as transaction:
            value = bytes(transaction.get(self._keys[index]))
        try:
            return message_class("Datum").FromString(value)
        except DecodeError as error:
            raise ImageError(f"{self.where(index)} is not a Datum: {error}") from error

    def read(self, index: int, decode: Decoder = decode_image) -> tuple[Any, int]:
        """One image as (H, W, 3), blue first, and its label; grey ones have equal channels.

        ``decode`` makes it of an encoded Datum, whose bytes are gone afterwards.
        """
        with _reading(self.path) as transaction:
            datum = _Datum.parse(transaction.get(self._keys[index]), self.where(index))
            return datum.to_bgr(self.where(index), decode), datum.label

    def planes(self, index: int) -> npt.NDArray[np.uint8]:
        """The pixels (C, H, W) of one Datum with the channels that it has."""
        with _reading(self.path) as transaction:
            datum = _Datum.parse(transaction.get(self._keys[index]), self.where(index))
            return np.array(datum.planes(self.where(index)))


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
        with _OPENING:
            environment = _environment(path)
        with environment.begin(buffers=True) as transaction:
            yield transaction
    except lmdb.Error as error:
        raise _unreadable(path, str(error)) from None


_OPENING = Lock()


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


class _Datum(NamedTuple):
    """An image as a database holds it; the field numbers in caffe.proto are 1 to 5 and 7.

    ``data`` stays where it is, in the memory of the database: 200 kB an image, which protobuf
    would copy twice.
    """

    channels: int = 0
    height: int = 0
    width: int = 0
    data: memoryview = memoryview(b"")
    label: int = 0
    encoded: int = 0

    @classmethod
    def parse(cls, value: memoryview, where: str) -> _Datum:
        """Read the message. Raises ImageError if it is none, or if its label is negative."""
        found: dict[str, Any] = {}
        try:
            fields = Fields(value, where)  # type: ignore[arg-type]  # it is read like bytes
            for field in fields.items(0, len(value)):
                name, wire = _DATUM.get(field.number, ("", None))
                if field.wire == wire:
                    data = wire == BYTES
                    found[name] = (
                        value[field.value : field.end] if data else signed(field.value, 32)
                    )
        except ReadError as error:
            raise ImageError(f"{error}: it is not a Datum") from error
        datum = cls(**found)
        if datum.label < 0:
            raise ImageError(f"{where}: label {datum.label} is negative")
        return datum

    def to_bgr(self, where: str, decode: Decoder) -> Any:
        """The pixels (H, W, 3), blue first, in memory of their own, or what ``decode`` makes."""
        import cv2

        if self.encoded:
            return decode(np.frombuffer(self.data, np.uint8), where)
        planes = self.planes(where)
        if len(planes) not in (1, 3):
            raise ImageError(
                f"{where} is {planes.shape} (channels, height, width): an image has 1 or 3 channels"
            )
        return cv2.merge([planes[n % len(planes)] for n in range(3)])

    def planes(self, where: str) -> npt.NDArray[np.uint8]:
        """The pixels (C, H, W) with the channels that the Datum has; raw ones are a view."""
        data = np.frombuffer(self.data, np.uint8)
        if self.encoded:
            pixels = decode_image(data, where, channels=None)
            pixels = pixels.reshape(*pixels.shape[:2], -1)
            return cast("npt.NDArray[np.uint8]", pixels.transpose(2, 0, 1))
        shape = (self.channels, self.height, self.width)
        if min(shape) < 1:
            raise ImageError(
                f"{where} is {shape} (channels, height, width): an image has 1 or 3 channels"
            )
        if len(data) != self.channels * self.height * self.width:
            raise ImageError(
                f"{where} holds {len(data)} bytes of pixels, but its shape {shape} needs "
                f"{self.channels * self.height * self.width}"
            )
        raw: npt.NDArray[np.uint8] = data.reshape(shape)
        return raw


_DATUM = {
    1: ("channels", VARINT),
    2: ("height", VARINT),
    3: ("width", VARINT),
    4: ("data", BYTES),
    5: ("label", VARINT),
    7: ("encoded", VARINT),
}
