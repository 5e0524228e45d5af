"""A single array of a file: BlobProto bytes to a view of the values and their shape, and .npy."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe2torch.errors import ReadError
from caffe2torch.io.fields import BYTES, FIXED32, FIXED64, VARINT, Field, Fields, signed
from caffe2torch.io.files import open_file, other_kind

_MAX_AXES = 32  # Caffe's kMaxBlobAxes.
_INT32_MAX = 2**31 - 1

_LEGACY = {1: "num", 2: "channels", 3: "height", 4: "width"}
_DATA, _DIFF, _SHAPE, _DOUBLE_DATA, _DOUBLE_DIFF, _RAW_TYPE, _RAW_DATA = 5, 6, 7, 8, 9, 10, 12
_RAW_DTYPES = {0: "<f8", 1: "<f4", 2: "<f2"}
_RAW_NAMES = {3: "INT", 4: "UINT"}
_VALUE_FIELDS = {_DATA: FIXED32, _DIFF: FIXED32, _DOUBLE_DATA: FIXED64, _DOUBLE_DIFF: FIXED64}
_NPY = b"\x93NUMPY"


@dataclass(frozen=True, eq=False)
class Blob:
    """One learned array.

    ``data`` is flat and read-only, and a view of the file where the file has the values in
    one piece: it may be unaligned. ``legacy`` says that the shape was written as num,
    channels, height and width; it has four entries then, whatever the array's real rank.
    """

    data: NDArray[Any]
    shape: tuple[int, ...]
    legacy: bool


class _Values:
    """The values of one repeated field: a piece of the file, or a copy of several pieces."""

    def __init__(self, fields: Fields, dtype: str) -> None:
        self.fields, self.dtype = fields, np.dtype(dtype)
        self.pieces = 0
        self.start = self.length = 0
        self.joined = bytearray()

    def add(self, start: int, end: int) -> None:
        """Append packed values."""
        if (end - start) % self.dtype.itemsize:
            self.fields.fail(
                start,
                f"an array of {end - start} bytes does not hold whole "
                f"{self.dtype.itemsize}-byte numbers; the file is corrupt",
            )
        if start == end:
            return
        if self.pieces == 0:
            self.start, self.length = start, end - start
        else:
            self._copy_first()
            self.joined += self.fields.buffer[start:end]
        self.pieces += 1

    def add_run(self, item: Field, count: int) -> None:
        """Append ``item`` and the ``count`` values that follow it with a tag each."""
        self._copy_first()
        self.pieces += 1
        self.joined += self.fields.buffer[item.value : item.end]
        if count:
            width = item.end - item.start
            records = np.frombuffer(self.fields.buffer, np.uint8, count * width, item.end)
            self.joined += records.reshape(count, width)[:, 1:].tobytes()

    def array(self) -> NDArray[Any]:
        """All values, without a copy where the file has them in one piece."""
        if self.joined:
            values = np.frombuffer(self.joined, self.dtype)
            values.flags.writeable = False
            return values
        if not self.length:
            return np.frombuffer(b"", self.dtype)
        count = self.length // self.dtype.itemsize
        return np.frombuffer(self.fields.buffer, self.dtype, count, self.start)

    def _copy_first(self) -> None:
        if self.pieces and not self.joined:
            self.joined += self.fields.buffer[self.start : self.start + self.length]

    def __bool__(self) -> bool:
        return self.pieces > 0


@dataclass
class _Parts:
    """What the fields of one BlobProto say."""

    data: _Values
    double_data: _Values
    dims: list[int] = field(default_factory=list)
    legacy: dict[int, int] = field(default_factory=dict)
    raw_type: int | None = None
    raw: tuple[int, int] | None = None


def read_blob(fields: Fields, pos: int, end: int, where: str) -> Blob:
    """The blob in ``[pos, end)``; ``where`` names it in errors, as ``blob 0``."""
    parts = _Parts(_Values(fields, "<f4"), _Values(fields, "<f8"))
    start = pos
    while pos < end:
        item = fields.field(pos, end)
        pos = item.end
        number, wire = item.number, item.wire
        if wire == BYTES:
            _read_bytes(fields, parts, item)
        elif wire == _VALUE_FIELDS.get(number):
            count = fields.run(item, end)
            pos += count * (item.end - item.start)
            if number == _DATA:
                parts.data.add_run(item, count)
            elif number == _DOUBLE_DATA:
                parts.double_data.add_run(item, count)
        elif wire == VARINT and number in _LEGACY:
            parts.legacy[number] = signed(item.value, 32)
        elif wire == VARINT and number == _RAW_TYPE:
            parts.raw_type = signed(item.value, 32)
    return _blob(fields, parts, start, where)


def _read_bytes(fields: Fields, parts: _Parts, item: Field) -> None:
    if item.number == _DATA:
        parts.data.add(item.value, item.end)
    elif item.number == _DOUBLE_DATA:
        parts.double_data.add(item.value, item.end)
    elif item.number == _SHAPE:
        _read_dims(fields, parts.dims, item)
    elif item.number == _RAW_DATA:
        parts.raw = item.value, item.end


def _read_dims(fields: Fields, dims: list[int], shape: Field) -> None:
    pos = shape.value
    while pos < shape.end:
        item = fields.field(pos, shape.end)
        pos = item.end
        if item.number != 1:
            continue
        if item.wire == VARINT:
            dims.append(signed(item.value, 64))
        elif item.wire == BYTES:
            at = item.value
            while at < item.end and len(dims) <= _MAX_AXES:
                dim, at = fields.varint(at, item.end)
                dims.append(signed(dim, 64))
        if len(dims) > _MAX_AXES:
            fields.fail(shape.start, f"a shape of more than {_MAX_AXES} axes; Caffe has no such")


def _blob(fields: Fields, parts: _Parts, start: int, where: str) -> Blob:
    legacy = bool(parts.legacy)
    shape = tuple(parts.legacy.get(n, 0) for n in _LEGACY) if legacy else tuple(parts.dims)
    data = _values(fields, parts, start, where)
    if any(dim < 0 for dim in shape) or any(dim > _INT32_MAX for dim in shape):
        fields.fail(start, f"{where} has the impossible shape {shape}; the file is corrupt")
    count = math.prod(shape)
    if count != data.size:
        fields.fail(
            start,
            f"{where} has the shape {shape}, which is {count} values, but holds {data.size}; "
            "the file is corrupt or was cut",
        )
    return Blob(data, shape, legacy)


def _values(fields: Fields, parts: _Parts, start: int, where: str) -> NDArray[Any]:
    if parts.raw_type is not None or parts.raw is not None:
        return _raw_values(fields, parts, where, start)
    return (parts.double_data or parts.data).array()


def _raw_values(fields: Fields, parts: _Parts, where: str, start: int) -> NDArray[Any]:
    dtype = _RAW_DTYPES.get(-1 if parts.raw_type is None else parts.raw_type)
    if dtype is None:
        name = _RAW_NAMES.get(parts.raw_type or 0, "none" if parts.raw_type is None else "unknown")
        fields.fail(
            start,
            f"{where} has raw_data of the type {name} ({parts.raw_type}); only FLOAT16, FLOAT "
            "and DOUBLE can be read: save the model with one of them",
        )
    values = _Values(fields, dtype)
    if parts.raw is not None:
        values.add(*parts.raw)
    return values.array()


def read_blob_proto(path: str | os.PathLike[str]) -> Blob:
    """The array of a ``.binaryproto`` file."""
    data = open_file(path)
    kind = other_kind(data[:4096])
    if kind is not None and not kind.startswith("a single blob"):
        raise ReadError(f"{path}: is {kind}, not a blob (.binaryproto)")
    return read_blob(Fields(data, str(path)), 0, len(data), "the blob")


def read_mean(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """The mean image in a ``.binaryproto`` or ``.npy`` file, as (channels, height, width)."""
    head = open_file(path)[: len(_NPY)]
    mean = _read_npy(path) if head == _NPY else _as_array(read_blob_proto(path))
    if mean.ndim == 4 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.ndim != 3 or mean.size == 0:
        raise ReadError(
            f"{path}: the array has the shape {mean.shape}; a mean image has "
            "(channels, height, width)"
        )
    return np.array(mean, np.float32, order="C")  # A copy: a view may be unaligned.


def _as_array(blob: Blob) -> NDArray[np.generic]:
    return blob.data.reshape(blob.shape)


def _read_npy(path: str | os.PathLike[str]) -> NDArray[np.generic]:
    try:
        mean: NDArray[np.generic] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy evaluates the header's text as a literal of Python.
        raise ReadError(f"{path}: the .npy file is truncated or corrupt ({error})") from None
    if mean.dtype.kind not in "fiu":
        raise ReadError(f"{path}: the array holds {mean.dtype}, not numbers")
    return mean
