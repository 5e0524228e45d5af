"""Learned blobs of a running net to and from Caffe's files (net.cpp: CopyTrainedLayersFrom)."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from caffe2torch.errors import WeightsError
from caffe2torch.io.atomic import atomic_write
from caffe2torch.io.caffemodel import read_caffemodel
from caffe2torch.io.hdf5 import ABSENT
from caffe2torch.io.schema import Message, message_class
from caffe2torch.passes.attach_weights import shape_fits
from caffe2torch.passes.resolve import AUTOMATIC
from caffe2torch.passes.upgrade import blob_owner_names
from caffe2torch.pycaffe.steps import Step


def require(*paths: str) -> None:
    """Raise RuntimeError unless all files are there."""
    for path in paths:
        if not os.path.isfile(path):
            raise RuntimeError(f"Could not open file {path}")


def copy_weights(path: str, steps: Sequence[Step]) -> None:
    """Copy a file's blobs into the layers of the same names; others keep their values.

    Raises ReadError for a file that cannot be read, and WeightsError for a layer with another
    number of blobs, or a blob of another shape.
    """
    weights = read_caffemodel(path)
    targets = {step.name: step for step in reversed(steps)}
    for name, blobs in zip(blob_owner_names(weights.net), weights.blobs, strict=True):
        step = targets.get(name)
        if step is None:
            continue
        if len(blobs) != len(step.blobs):
            raise WeightsError(
                f"{path} has {len(blobs)} blobs for it, the net has {len(step.blobs)}",
                layer=name,
                type=step.type,
            )
        for index, (blob, target) in enumerate(zip(blobs, step.blobs, strict=True)):
            if blob is ABSENT:  # It is that of another layer, which the file has.
                continue
            if not shape_fits(blob.shape, blob.legacy, target._shape):
                raise WeightsError(
                    f"blob {index} has the shape {blob.shape} in {path}, and {target._shape} in "
                    "the net",
                    layer=name,
                    type=step.type,
                )
            np.copyto(target.data, blob.data.reshape(target._shape))


def save_binary(path: str, net: Message, steps: Sequence[Step]) -> None:
    """Write a NetParameter as a running Caffe does: filtered, with Splits and blobs."""
    message = message_class("NetParameter")(name=net.name)
    for step in steps:
        layer = message.layer.add()
        layer.CopyFrom(step.proto)
        layer.ClearField("place")
        layer.ClearField("blobs")
        if layer.top and layer.top[0].startswith(AUTOMATIC):
            layer.ClearField("top")
        for blob in step.blobs:
            proto = layer.blobs.add()
            proto.shape.dim[:] = blob._shape
            proto.data.extend(blob.data.reshape(-1))
    with atomic_write(path) as file:
        file.write(message.SerializeToString())


def save_hdf5(path: str, steps: Sequence[Step]) -> None:
    """Write ``/data/LAYER/INDEX``, each shared blob once."""
    import h5py

    written: set[int] = set()
    with atomic_write(path) as file, h5py.File(file, "w") as out:
        data = out.create_group("data")
        for step in steps:
            group = data.require_group(step.name)
            for index, blob in enumerate(step.blobs):
                if id(blob._diff) not in written:
                    written.add(id(blob._diff))
                    group.create_dataset(str(index), data=blob.data)
