"""Weights of a file: a binary caffemodel or an HDF5 snapshot."""

from __future__ import annotations

from dataclasses import dataclass, field

from caffe2torch.io.blob import Blob, read_blob
from caffe2torch.io.checksum import Checksum, OpenedFile
from caffe2torch.io.fields import Fields
from caffe2torch.io.files import HDF5_SIGNATURE, Source
from caffe2torch.io.hdf5 import read_hdf5
from caffe2torch.io.schema import Message
from caffe2torch.io.wire import walk


@dataclass(frozen=True, eq=False)
class Weights:
    """A file's net, as the file has it, and the learned arrays of each of its layers.

    ``blobs`` is parallel to ``net.layer``, or to ``net.layers`` where the file is of the V0
    or V1 format. The net of an HDF5 file has the layers' names only, and ``hdf5.ABSENT``
    stands where such a file leaves out an array that another layer owns.
    """

    net: Message
    blobs: list[list[Blob]]
    path: str
    sha256: Checksum = field(repr=False)


def read_caffemodel(path: Source) -> Weights:
    """Read the weights in ``path``, whichever of Caffe's two formats it has."""
    file = path if isinstance(path, OpenedFile) else OpenedFile(path)
    is_hdf5 = file.data[: len(HDF5_SIGNATURE)] == HDF5_SIGNATURE
    read = read_hdf5 if is_hdf5 else walk
    return Weights(*read(file.data, file.path), file.path, file.checksum)


def inline_blobs(layer: Message) -> list[Blob]:
    """The learned arrays that a prototxt gives within ``layer``."""
    blobs = []
    for index, blob in enumerate(layer.blobs):
        data = blob.SerializeToString()
        where = f"blob {index} of layer {layer.name!r}"
        blobs.append(read_blob(Fields(data, "prototxt"), 0, len(data), where))
    return blobs
