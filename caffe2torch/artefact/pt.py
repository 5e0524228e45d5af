"""The .pt form: what ``torch.save`` writes, streamed and without importing torch.

The format (torch/serialization.py, "Layout Control" in PyTorch's serialization notes): a ZIP
of stored entries under one folder, with ``data.pkl`` (a pickle in which each storage is a
persistent id), ``data/N`` (the bytes of storage N), ``byteorder`` and ``version``.
"""

from __future__ import annotations

import pickle
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

import numpy as np

from caffe2torch.artefact.write import PathLike, contents_of, dumps, register_writer
from caffe2torch.graph import FloatArray, Graph
from caffe2torch.io.arrays import Progress, ignore, seekable, write_array
from caffe2torch.io.atomic import atomic_write

FOLDER = "archive"
ALIGNMENT = 64
"""Where contents begin: torch.load(mmap=True) and vector instructions want it."""
_PADDING = 0x4246
"""An extra field whose content means nothing; torch pads with the same number."""
_STORAGES = {np.dtype(np.float32): "FloatStorage", np.dtype(np.float16): "HalfStorage"}


@register_writer(".pt")
def write_graph_pt(
    path: PathLike,
    graph: Graph,
    *,
    half: bool,
    durable: bool,
    progress: Progress,
    bare: bool = False,
) -> None:
    """Write the .pt form, or the state_dict alone if ``bare``; arguments as of ``Writer``."""
    params, metadata = contents_of(graph, half=half, bare=bare)
    with atomic_write(path, durable) as file:
        write_pt(file, params, metadata, progress)


def write_pt(
    file: BinaryIO,
    params: Mapping[str, FloatArray],
    metadata: Mapping[str, Any] | None,
    progress: Progress = ignore,
) -> None:
    """Write ``torch.save({"metadata", "state_dict"})``, or without metadata that of the state_dict.

    ``torch.load`` reads both with ``weights_only=True``. An array that has several keys is there
    once.
    """
    with seekable(file) as out, zipfile.ZipFile(out, "w") as archive:
        storages = list({id(array): array for array in params.values()}.values())
        numbers = {id(array): number for number, array in enumerate(storages)}
        for number, array in enumerate(storages):
            with _entry(archive, out, f"data/{number}", array.nbytes) as entry:
                write_array(entry, array, progress)
        tensors = {key: _tensor(numbers[id(array)], array) for key, array in params.items()}
        content = _dict(tensors)
        if metadata is not None:  # After the arrays: its checksum may take as long as they do.
            content = _dict({"metadata": _text(dumps(metadata)), "state_dict": content})
        for name, data in (
            ("data.pkl", pickle.PROTO + b"\2" + content + pickle.STOP),
            ("byteorder", b"little"),
            ("version", b"3\n"),
        ):
            with _entry(archive, out, name, len(data)) as entry:
                entry.write(data)


@contextmanager
def _entry(archive: zipfile.ZipFile, file: BinaryIO, name: str, size: int) -> Iterator[BinaryIO]:
    """A new stored entry, whose content begins at a multiple of ``ALIGNMENT`` in the file."""
    info = zipfile.ZipInfo(f"{FOLDER}/{name}")  # Of 1980: the same content gives the same bytes.
    info.create_system = 0
    large = size > zipfile.ZIP64_LIMIT
    header = 30 + len(info.filename) + (20 if large else 0)  # PKWARE's APPNOTE, 4.3.7 and 4.5.3.
    padding = -(file.tell() + header + 4) % ALIGNMENT
    info.extra = struct.pack("<HH", _PADDING, padding) + bytes(padding)
    with archive.open(info, "w", force_zip64=large) as entry:
        # zipfile's writer does not say where it is, which write_array asks.
        entry.tell = file.tell  # type: ignore[method-assign]
        yield cast(BinaryIO, entry)


def _tensor(number: int, array: FloatArray) -> bytes:
    """A call of ``_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)``."""
    kind = _global("torch", _STORAGES[array.dtype])
    storage = _tuple([_text("storage"), kind, _text(str(number)), _text("cpu"), _int(array.size)])
    strides = [int(np.prod(array.shape[axis + 1 :], dtype=np.int64)) for axis in range(array.ndim)]
    sizes = [_tuple([_int(value) for value in values]) for values in (array.shape, strides)]
    hooks = _global("collections", "OrderedDict") + _tuple([]) + pickle.REDUCE
    arguments = _tuple([storage + pickle.BINPERSID, _int(0), *sizes, pickle.NEWFALSE, hooks])
    return _global("torch._utils", "_rebuild_tensor_v2") + arguments + pickle.REDUCE


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
