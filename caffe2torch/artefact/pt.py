"""The .pt form: what ``torch.save`` writes, streamed and without importing torch.

The format (torch/serialization.py, "Layout Control" in PyTorch's serialization notes): a ZIP
of stored entries under one folder, with ``data.pkl`` (a pickle in which each storage is a
persistent id), ``data/N`` (the bytes of storage N), ``byteorder`` and ``version``.
"""

from __future__ import annotations

import pickle
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, BinaryIO

import numpy as np

from caffe2torch.artefact.metadata import draft, dumps
from caffe2torch.artefact.zip_archive import Entry, Late, Streamed, write_zip
from caffe2torch.graph import FloatArray
from caffe2torch.io.arrays import Progress, ignore, seekable, write_array
from caffe2torch.io.files import place_in_file

FOLDER = "archive"
VERSION = b"3\n"
BYTE_ORDER = b"little"
_STORAGES = {np.dtype(np.float32): "FloatStorage", np.dtype(np.float16): "HalfStorage"}


def write_pt(
    file: BinaryIO,
    params: Mapping[str, FloatArray],
    metadata: Mapping[str, Any],
    progress: Progress = ignore,
) -> None:
    """Write ``torch.save({"metadata", "state_dict"})``: loads with ``weights_only=True``."""

    def pickled(text: str) -> bytes:
        return _pickle(_dict({"metadata": _text(text), "state_dict": _state_dict(params)}))

    _write(file, params, pickled(draft(metadata)), lambda: pickled(dumps(metadata)), progress)


def write_state_dict(
    file: BinaryIO, params: Mapping[str, FloatArray], progress: Progress = ignore
) -> None:
    """Write ``torch.save(state_dict)``, for ``module.load_state_dict(torch.load(...))``."""
    content = _pickle(_state_dict(params))
    _write(file, params, content, lambda: content, progress)


def _write(
    file: BinaryIO,
    params: Mapping[str, FloatArray],
    draft: bytes,
    final: Callable[[], bytes],
    progress: Progress,
) -> None:
    """Write the archive; ``final``, as long as ``draft``, is asked for after the arrays."""
    with seekable(file) as out, ThreadPoolExecutor(1) as pool:
        arrays = [
            Streamed(
                f"{FOLDER}/data/{number}",
                array.nbytes,
                partial(write_array, array=array, progress=progress),
                # In a thread: it takes as long as the system's copy of the array.
                pool.submit(_crc, array).result,
            )
            for number, array in enumerate(params.values())
        ]
        entries: list[Entry] = [
            Late(f"{FOLDER}/data.pkl", len(draft), final),
            Late(f"{FOLDER}/byteorder", len(BYTE_ORDER), lambda: BYTE_ORDER),
            *arrays,
            Late(f"{FOLDER}/version", len(VERSION), lambda: VERSION),
        ]
        write_zip(out, entries)


def _crc(array: FloatArray) -> int:
    """The CRC-32 of the array's bytes in the archive."""
    crc = 0
    for part in _parts(array):
        crc = zlib.crc32(part, crc)
    return crc


def _parts(array: FloatArray) -> Iterator[memoryview]:
    """The array's bytes in C order, without a copy of the whole."""
    if array.flags.c_contiguous:
        place = place_in_file(array)
        if place is not None:
            yield from place[0].parts(place[1], array.nbytes)
        else:
            yield array.reshape(-1).view(np.uint8).data
        return
    for row in array:
        yield from _parts(row if row.ndim > 1 else np.ascontiguousarray(row))


def _state_dict(params: Mapping[str, FloatArray]) -> bytes:
    return _dict({key: _tensor(n, array) for n, (key, array) in enumerate(params.items())})


def _tensor(number: int, array: FloatArray) -> bytes:
    """A call of ``_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)``."""
    storage = _tuple(
        [
            _text("storage"),
            _global("torch", _STORAGES[array.dtype]),
            _text(str(number)),
            _text("cpu"),
            _int(array.size),
        ]
    )
    strides = [int(np.prod(array.shape[axis + 1 :], dtype=np.int64)) for axis in range(array.ndim)]
    hooks = _global("collections", "OrderedDict") + _tuple([]) + pickle.REDUCE
    arguments = _tuple(
        [
            storage + pickle.BINPERSID,
            _int(0),
            _tuple([_int(size) for size in array.shape]),
            _tuple([_int(stride) for stride in strides]),
            pickle.NEWFALSE,
            hooks,
        ]
    )
    return _global("torch._utils", "_rebuild_tensor_v2") + arguments + pickle.REDUCE


def _pickle(content: bytes) -> bytes:
    return pickle.PROTO + b"\2" + content + pickle.STOP


def _dict(items: Mapping[str, bytes]) -> bytes:
    pairs = b"".join(_text(key) + value for key, value in items.items())
    return pickle.EMPTY_DICT + pickle.MARK + pairs + pickle.SETITEMS


def _tuple(items: Sequence[bytes]) -> bytes:
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def _text(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    return pickle.BINUNICODE + struct.pack("<I", len(encoded)) + encoded


def _int(value: int) -> bytes:
    if value < 2**31:
        return pickle.BININT + struct.pack("<i", value)
    return pickle.LONG1 + bytes([8]) + struct.pack("<q", value)


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()
