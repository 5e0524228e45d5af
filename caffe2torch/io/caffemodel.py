"""Weights of a file: a binary caffemodel or an HDF5 snapshot."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

from caffe2torch.io.blob import Blob, read_blob
from caffe2torch.io.checksum import Checksum
from caffe2torch.io.fields import Fields
from caffe2torch.io.files import HDF5_SIGNATURE, Buffer, Source, name_of, open_file
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
    _bytes: Buffer = field(repr=False)

    @cached_property
    def sha256(self) -> Checksum:
        """The checksum of the file."""
        return Checksum(self._bytes, self.path)


def read_caffemodel(path: Source) -> Weights:
    """Read the weights in ``path``, whichever of Caffe's two formats it has."""
    data = open_file(path)
    source = name_of(path)
    is_hdf5 = data[: len(HDF5_SIGNATURE)] == HDF5_SIGNATURE
    net, blobs = read_hdf5(source, data) if is_hdf5 else walk(data, source)
    return Weights(net, blobs, source, data)


def inline_blobs(layer: Message) -> list[Blob]:
    """The learned arrays that a prototxt gives within ``layer``."""
    blobs = []
    for index, blob in enumerate(layer.blobs):
        data = blob.SerializeToString()
        where = f"blob {index} of layer {layer.name!r}"
        blobs.append(read_blob(Fields(data, "prototxt"), 0, len(data), where))
    return blobs
