"""Caffe's HDF5 snapshots: the arrays are the datasets ``data/<layer>/<index>``."""

from __future__ import annotations

import io
import mmap
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from caffe2torch.errors import ArtefactError, ReadError
from caffe2torch.graph import FloatArray
from caffe2torch.io.blob import Blob
from caffe2torch.io.files import Buffer
from caffe2torch.io.schema import Message, message_class

ABSENT = Blob(np.zeros(0, "<f4"), (0,), False)
"""Stands for an array that a file leaves out, because the layer shares another layer's."""

_DTYPES = ("<f2", "<f4", "<f8")
_MAX_DEPTH = 32  # Of groups: a layer named a/b/c lies three groups deep.
_MAX_LAYERS = 50_000
_MAX_BLOBS = 1000  # Of one layer.
_MAX_RATIO = 64  # Of an array's size to the file's: what compression can account for.
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, UnicodeError)


def read_hdf5(data: Buffer, path: str) -> tuple[Message, list[list[Blob]]]:
    """The net, of names alone, and each layer's arrays of the file ``path`` with ``data``."""
    h5py = reader_of(path)
    try:
        with h5py.File(path if isinstance(data, mmap.mmap) else io.BytesIO(data), "r") as file:
            return _Snapshot(path, len(data), h5py).read(file)
    except _DAMAGE as error:
        raise ReadError(
            f"{path}: the HDF5 file is truncated or corrupt ({error}); copy it again"
        ) from None


def reader_of(path: str | os.PathLike[str]) -> Any:
    """The module h5py. Raises ReadError, which names the file ``path``, if it is not installed."""
    try:
        import h5py
    except ImportError:
        raise ReadError(
            f'{path}: is an HDF5 file, which needs h5py: pip install "caffe2torch[hdf5]"'
        ) from None
    return h5py


@contextmanager
def new_hdf5(file: BinaryIO) -> Iterator[Any]:
    """An h5py.File, whose content is written to ``file`` at the end of the block."""
    try:
        import h5py
    except ImportError:
        raise ArtefactError('an HDF5 file needs h5py: pip install "caffe2torch[hdf5]"') from None
    with h5py.File(io.BytesIO(), "w") as content:
        yield content
        content.flush()
        file.write(content.id.get_file_image())


def write_hdf5(file: BinaryIO, layers: Iterable[tuple[str, Mapping[int, FloatArray]]]) -> None:
    """Write a snapshot of the layers' names and the arrays that each of them owns, by index.

    Caffe: Net::ToHDF5, with float32 arrays.
    """
    with new_hdf5(file) as content:
        data = content.create_group("data")
        for name, arrays in layers:
            group = data.require_group(name)
            for index, array in arrays.items():
                group.create_dataset(str(index), data=np.ascontiguousarray(array, "<f4"))


class _Snapshot:
    def __init__(self, path: str, size: int, h5py: Any) -> None:
        self.path, self.size, self.h5py = path, size, h5py

    def read(self, file: Any) -> tuple[Message, list[list[Blob]]]:
        """All layers of the open file."""
        if not isinstance(file.get("data"), self.h5py.Group):
            raise ReadError(
                f"{self.path}: the HDF5 file has no group 'data'; it is not a Caffe snapshot "
                "(a .solverstate.h5 or a Keras model has none either)"
            )
        net = message_class("NetParameter")()
        blobs: list[list[Blob]] = []
        for name, arrays in self._layers(file["data"], "", 0):
            if len(blobs) == _MAX_LAYERS:
                raise ReadError(f"{self.path}: more than {_MAX_LAYERS} layers; it is corrupt")
            net.layer.add(name=name)
            blobs.append(self._blobs(name, arrays))
        return net, blobs

    def _layers(self, group: Any, name: str, depth: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """Layers below ``group``: a group with arrays, or one with nothing in it."""
        if depth > _MAX_DEPTH:
            raise ReadError(f"{self.path}: groups are nested too deeply at {name!r}")
        members = {key: self._member(group, key) for key in group}
        arrays = {k: v for k, v in members.items() if isinstance(v, self.h5py.Dataset)}
        if name and (arrays or not members):
            yield name, arrays
        for key, member in members.items():
            if isinstance(member, self.h5py.Group):
                yield from self._layers(member, f"{name}/{key}" if name else key, depth + 1)

    def _member(self, group: Any, key: str) -> Any:
        # A link to elsewhere may lead to another file, or in a circle.
        if not isinstance(group.get(key, getlink=True), self.h5py.HardLink):
            raise ReadError(
                f"{self.path}: {group.name}/{key} is a link to elsewhere, which Caffe does not "
                "write; save the snapshot again"
            )
        return group[key]

    def _blobs(self, layer: str, arrays: dict[str, Any]) -> list[Blob]:
        if any(not (key.isascii() and key.isdigit()) or len(key) > 4 for key in arrays):
            raise ReadError(
                f"{self.path}: the arrays of layer {layer!r} are {sorted(arrays)[:8]}; Caffe "
                "names them 0, 1, 2: this is not a Caffe snapshot"
            )
        count = max((int(key) + 1 for key in arrays), default=0)
        if count > _MAX_BLOBS:
            raise ReadError(f"{self.path}: layer {layer!r} has {count} arrays; it is corrupt")
        return [
            self._blob(f"layer {layer!r}, blob {index}", arrays[str(index)])
            if str(index) in arrays
            else ABSENT
            for index in range(count)
        ]

    def _blob(self, where: str, dataset: Any) -> Blob:
        dtype = dataset.dtype.newbyteorder("<") if sys.byteorder == "little" else dataset.dtype
        if dtype.str not in _DTYPES:
            raise ReadError(
                f"{self.path}: {where} is of the type {dataset.dtype}; "
                "only float16, float32 and float64 can be read"
            )
        if dataset.external or dataset.is_virtual:
            raise ReadError(f"{self.path}: {where} lies in another file; save the snapshot again")
        if dataset.size * dtype.itemsize > _MAX_RATIO * self.size:
            raise ReadError(
                f"{self.path}: {where} has the shape {dataset.shape}, far more than the file's "
                f"{self.size} bytes can hold; it is truncated or corrupt"
            )
        values = np.ascontiguousarray(dataset[()], dtype).reshape(-1)
        return Blob(values, tuple(dataset.shape), False)
