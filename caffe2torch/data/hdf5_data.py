"""HDF5Data: rows of arrays in HDF5 files (Caffe: hdf5_data_layer.cpp, util/hdf5.cpp)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from caffe2torch.data.source import (
    ArraySource,
    Reading,
    batch_size_of,
    check_tops,
    register_source,
)
from caffe2torch.errors import ReadError
from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.files import text_of
from caffe2torch.io.hdf5 import reader_of
from caffe2torch.io.schema import Message
from caffe2torch.layers import net_error

SHUFFLED_FILES, SHUFFLED_ROWS = range(2)
"""What random numbers of a pass over the data are for."""
MOST_ORDERS = 16
"""Orders that are kept: a batch needs those of a pass or two and of a few files."""


@register_source("HDF5Data")
class HDF5Data(ArraySource):
    """A top for each dataset of its name: (N, ...) of the rows (R, ...) in the files.

    ``source`` lists the files, with white space between them. Rows come one after the other, from
    file to file and over again, so that a batch may cross files; with ``shuffle`` (false) the files
    of a pass and the rows of a file come in random order. Numbers of any type become float32.
    Errors: NetError for a transform_param or an empty list, ReadError for a file or a dataset that
    is missing, holds no numbers, or differs in its rows from that of another top or another file.
    """

    def __init__(self, proto: Message, reading: Reading) -> None:
        check_tops(proto, 1, None)
        if proto.HasField("transform_param"):
            raise net_error(proto, "the type does not transform data; remove it", "transform_param")
        self.proto, self.reading = proto, reading
        self.batch_size = batch_size_of(proto, "hdf5_data_param")
        self.files = _listed_files(proto, reading)
        shapes = [self._shapes_in(path) for path in self.files]
        for path, found in zip(self.files, shapes, strict=True):
            for top, shape, first in zip(proto.top, found, shapes[0], strict=True):
                if shape[1:] != first[1:]:
                    raise self._unusable(
                        path, top, f"has rows of {shape[1:]}, {self.files[0]} of {first[1:]}"
                    )
        self.rows = np.array([found[0][0] for found in shapes])
        self.shapes = tuple((self.batch_size, *shape[1:]) for shape in shapes[0])
        self._orders: dict[tuple[int, ...], npt.NDArray[np.int64]] = {}
        self._loaded: tuple[int, list[FloatArray]] | None = None

    def arrays(self, index: int) -> tuple[FloatArray, ...]:
        """Batch ``index``: rows from one file, or from several."""
        places = [self._place(p) for p in self.reading.positions(index, self.batch_size)]
        parts = []
        for file, group in groupby(places, lambda place: place[0]):
            rows = [row for _, row in group]
            parts.append([array[rows] for array in self._load(file)])
        return tuple(np.concatenate(part) for part in zip(*parts, strict=True))

    def _place(self, position: int) -> tuple[int, int]:
        """File and row at a position of the stream."""
        turn, left = divmod(position, int(self.rows.sum()))
        order = self._order(len(self.files), turn, SHUFFLED_FILES)
        ends = np.cumsum(self.rows[order])
        slot = int(np.searchsorted(ends, left, side="right"))
        file = int(order[slot])
        row = left - int(ends[slot] - self.rows[file])
        return file, int(self._order(int(self.rows[file]), turn, SHUFFLED_ROWS, file)[row])

    def _order(self, count: int, *place: int) -> npt.NDArray[np.int64]:
        """The order of ``count`` files or rows in a pass."""
        if not self.proto.hdf5_data_param.shuffle:
            return np.arange(count)
        if place not in self._orders:
            if len(self._orders) == MOST_ORDERS:
                self._orders.clear()
            random = self.reading.random(self.proto.name, *place)
            self._orders[place] = random.permutation(count)
        return self._orders[place]

    def _load(self, file: int) -> list[FloatArray]:
        """All rows of a file, of which one is in memory, as in Caffe."""
        if self._loaded is None or self._loaded[0] != file:
            with _opened(self.files[file]) as opened:
                # HDF5 converts the numbers, as it does for Caffe.
                arrays = [opened[top].astype(np.float32)[()] for top in self.proto.top]
            self._loaded = file, arrays
        return self._loaded[1]

    def _shapes_in(self, path: Path) -> list[Shape]:
        with _opened(path) as file:
            shapes = [self._shape_of(path, file, top) for top in self.proto.top]
        for top, shape in zip(self.proto.top, shapes, strict=True):
            if shape[0] != shapes[0][0]:
                raise self._unusable(
                    path, top, f"has {shape[0]} rows, {self.proto.top[0]!r} {shapes[0][0]}"
                )
        return shapes

    def _shape_of(self, path: Path, file: Any, top: str) -> Shape:
        import h5py

        names = list(file)
        if top not in names or not isinstance(file[top], h5py.Dataset):
            has = ", ".join(sorted(names)[:20]) or "nothing"
            raise self._unusable(path, top, f"is not in the file, which has {has}")
        dataset = file[top]
        if dataset.dtype.kind not in "fiu" or h5py.check_enum_dtype(dataset.dtype):
            raise self._unusable(path, top, f"holds {dataset.dtype}, not numbers")
        if not dataset.shape or not dataset.shape[0]:
            raise self._unusable(path, top, f"has the shape {dataset.shape}: no rows")
        return tuple(dataset.shape)

    def _unusable(self, path: Path, top: str, cause: str) -> ReadError:
        return ReadError(
            f"{path}: the dataset {top!r} {cause}; a top is read from the dataset of its name",
            layer=self.proto.name,
            type=self.proto.type,
        )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An HDF5 file. Raises ReadError if it cannot be opened or read."""
    h5py = reader_of(path)
    try:
        with h5py.File(path, "r") as file:
            yield file
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise ReadError(f"cannot read the HDF5 file {path}: {error}") from None


def _listed_files(proto: Message, reading: Reading) -> list[Path]:
    field, name = "hdf5_data_param.source", proto.hdf5_data_param.source
    source = reading.find(name)
    try:
        names = text_of(source.read_bytes(), f"the list {source}").split()
    except (OSError, ValueError) as error:
        raise reading.cannot_read(proto, field, "the list of HDF5 files", error) from None
    if not names:
        raise net_error(proto, f"{source} names no HDF5 file; it is empty", field)
    for entry in names:
        if not reading.find(entry).is_file():
            raise net_error(
                proto,
                f"{source} names {entry!r}, which does not exist{reading.tried(entry)}; the paths "
                "in the list count from there, not from the list",
                field,
            )
    return [reading.find(entry) for entry in names]
