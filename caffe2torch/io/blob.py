"""A single array of a file: BlobProto bytes to a view of the values and their shape, and .npy."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caffe2torch.errors import ReadError
from caffe2torch.io.fields import BYTES, FIXED32, FIXED64, VARINT, Field, Fields, signed
from caffe2torch.io.files import open_file, other_kind

_MAX_AXES = 32  # Caffe's kMaxBlobAxes.
_INT32_MAX = 2**31 - 1
_NONE = np.zeros(0, np.uint8)

_LEGACY = {1: "num", 2: "channels", 3: "height", 4: "width"}
_C3D = range(1, 6)  # num, channels, length, height, width
_C3D_DATA = 6
_C3D_VALUES = (_C3D_DATA, 7)
"""C3D 1.0 put the length before the height, and so has a width where Caffe has the values."""
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
    channels, height and width; it has four entries then, whatever the array's real rank. C3D
    1.0 writes five: num, channels, length, height and width.
    """

    data: NDArray[Any]
    shape: tuple[int, ...]
    legacy: bool


class _Values:
    """The values of one repeated field, in the pieces in which the file has them."""

    def __init__(self, fields: Fields, dtype: str) -> None:
        self.fields, self.dtype = fields, np.dtype(dtype)
        self.pieces: list[NDArray[np.uint8]] = []

    def add(self, start: int, end: int) -> None:
        """Append packed values."""
        if (end - start) % self.dtype.itemsize:
            self.fields.fail(
                start,
                f"an array of {end - start} bytes does not hold whole "
                f"{self.dtype.itemsize}-byte numbers; the file is corrupt",
            )
        if start < end:
            self.pieces.append(np.frombuffer(self.fields.buffer, np.uint8, end - start, start))

    def add_run(self, item: Field, count: int) -> None:
        """Append ``item`` and the ``count`` values that follow it with a tag each."""
        width = item.end - item.start
        records = np.frombuffer(self.fields.buffer, np.uint8, (count + 1) * width, item.start)
        self.pieces.append(records.reshape(-1, width)[:, item.value - item.start :].flatten())

    def array(self) -> NDArray[Any]:
        """All values, without a copy where the file has them in one piece."""
        values = self.pieces[0] if len(self.pieces) == 1 else np.concatenate(self.pieces or [_NONE])
        values.flags.writeable = False
        return values.view(self.dtype)


def read_blob(fields: Fields, pos: int, end: int, where: str) -> Blob:
    """The blob in ``[pos, end)``; ``where`` names it in errors, as ``blob 0``."""
    packed = {_DATA: _Values(fields, "<f4"), _DOUBLE_DATA: _Values(fields, "<f8")}
    dims: list[int] = []
    legacy: dict[int, int] = {}
    raw_type, raw = None, None
    start = pos
    c3d = _Values(fields, "<f4")
    while pos < end:
        item = fields.field(pos, end)
        pos = item.end
        number, wire = item.number, item.wire
        if wire == BYTES and number in _C3D_VALUES and len(legacy) == len(_C3D):
            if number == _C3D_DATA:
                c3d.add(item.value, item.end)
        elif wire == BYTES:
            if number in packed:
                packed[number].add(item.value, item.end)
            elif number == _SHAPE:
                _read_dims(fields, dims, item)
            elif number == _RAW_DATA:
                raw = item.value, item.end
        elif wire == _VALUE_FIELDS.get(number):
            count = fields.run(item, end)
            pos += count * (item.end - item.start)
            if number in packed:
                packed[number].add_run(item, count)
        elif wire == VARINT and number in _C3D:
            legacy[number] = signed(item.value, 32)
        elif wire == VARINT and number == _RAW_TYPE:
            raw_type = signed(item.value, 32)
    if raw_type is not None or raw is not None:
        values = _raw_values(fields, raw_type, raw, f"{where} has raw_data of the type", start)
    else:
        values = packed[_DOUBLE_DATA] if packed[_DOUBLE_DATA].pieces else packed[_DATA]
    data = (c3d if c3d.pieces else values).array()
    of_c3d = len(legacy) == len(_C3D)
    names = _C3D if of_c3d else _LEGACY
    legacy = {n: size for n, size in legacy.items() if n in names}
    shape = tuple(legacy.get(n, 0) for n in names) if legacy else tuple(dims)
    if not all(0 <= dim <= _INT32_MAX for dim in shape):
        fields.fail(start, f"{where} has the impossible shape {shape}; the file is corrupt")
    count = math.prod(shape)
    if count != data.size:
        fields.fail(
            start,
            f"{where} has the shape {shape}, which is {count} values, but holds {data.size}; "
            "the file is corrupt or was cut",
        )
    return Blob(data, shape, bool(legacy))


def _read_dims(fields: Fields, dims: list[int], shape: Field) -> None:
    for item in fields.items(shape.value, shape.end):
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


def _raw_values(
    fields: Fields, kind: int | None, raw: tuple[int, int] | None, where: str, start: int
) -> _Values:
    dtype = _RAW_DTYPES.get(-1 if kind is None else kind)
    if dtype is None:
        name = _RAW_NAMES.get(kind or 0, "none" if kind is None else "unknown")
        fields.fail(
            start,
            f"{where} {name} ({kind}); only FLOAT16, FLOAT and DOUBLE can be read: save the "
            "model with one of them",
        )
    values = _Values(fields, dtype)
    if raw is not None:
        values.add(*raw)
    return values


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
    if head == _NPY:
        try:
            mean: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
        except Exception as error:  # numpy evaluates the header's text as a literal of Python.
            raise ReadError(f"{path}: the .npy file is truncated or corrupt ({error})") from None
        if mean.dtype.kind not in "fiu":
            raise ReadError(f"{path}: the array holds {mean.dtype}, not numbers")
    else:
        blob = read_blob_proto(path)
        mean = blob.data.reshape(blob.shape)
    if mean.ndim == 4 and mean.shape[0] == 1:
        mean = mean[0]
    if mean.ndim != 3 or mean.size == 0:
        raise ReadError(
            f"{path}: the array has the shape {mean.shape}; a mean image has "
            "(channels, height, width)"
        )
    return np.array(mean, np.float32, order="C")  # A copy: a view may be unaligned.
