"""Arrays by blob name in an .npz file: recorded outputs, given inputs, reproducers."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np

from caffe2torch.errors import ParityError
from caffe2torch.graph import Array
from caffe2torch.io.files import check_archive

MAX_RATIO = 20
"""Of the arrays to the file: what compressed outputs of a net come to at most."""

TIME = (1980, 1, 1, 0, 0, 0)
"""The time of every entry: the same arrays give the same bytes."""


def read_npz(path: str | os.PathLike[str], what: str) -> dict[str, Array]:
    """The arrays of numbers in ``path`` by name; a record may hold others, such as file names.

    ``what`` says in an error what they should be. Raises ParityError for a file that is not
    an .npz, or damaged.
    """
    check_archive(path, MAX_RATIO)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in getattr(file, "files", ())}
    except Exception as error:  # zipfile, zlib and numpy's header raise many kinds.
        raise ParityError(f"{os.fspath(path)} is not an .npz file of {what}: {error}") from error
    return {name: array for name, array in arrays.items() if _is_number(array)}


def _is_number(array: Array) -> bool:
    return isinstance(array, np.ndarray) and array.dtype.kind in "fiub"


def write_npz(file: BinaryIO, arrays: Mapping[str, Array]) -> None:
    """Write ``arrays`` uncompressed as numpy.savez does, for any name."""
    # savez takes names as keyword arguments, so that none can be called "file".
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", TIME)
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)
