"""Single arrays: mean images and the matrices that a layer's parameter names a file for."""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from caffe2torch.errors import ReadError
from caffe2torch.io._fields import Fields
from caffe2torch.io.blob import Blob, read_blob
from caffe2torch.io.kinds import open_file, other_kind

_NPY = b"\x93NUMPY"
_OWN_KIND = "a single blob"


def read_blob_proto(path: str | os.PathLike[str]) -> Blob:
    """The array of a ``.binaryproto`` file."""
    data = open_file(path)
    kind = other_kind(data[:4096])
    if kind is not None and not kind.startswith(_OWN_KIND):
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
