"""Learned blobs of a running net to and from Caffe's files (net.cpp: CopyTrainedLayersFrom)."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np

from caffe2torch.errors import WeightsError
from caffe2torch.graph import FloatArray
from caffe2torch.io.atomic import atomic_write
from caffe2torch.io.caffemodel import read_caffemodel
from caffe2torch.io.hdf5 import ABSENT, write_hdf5
from caffe2torch.io.write_caffemodel import LayerBlobs, write_layers
from caffe2torch.passes.attach_weights import shape_fits
from caffe2torch.passes.upgrade import blob_owner_names
from caffe2torch.pycaffe.steps import Step
from caffe2torch.training.net import saved_layer


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


def layers_of(steps: Sequence[Step]) -> tuple[list[LayerBlobs], list[list[int]]]:
    """A running net's layers as a file has them, and which blobs each has first of all.

    They are filtered, with their phase and the Splits, and losses with their weight.
    """
    seen: set[int] = set()
    layers, owned = [], []
    for step in steps:
        weight = step.weights[0] if any(step.weights) else 0
        proto = saved_layer(step.proto, weight, sorted(step.statistics))
        declared = None if step.node is None else step.node.layer.parameters
        shapes = [blob._shape for blob in step.blobs]
        layers.append(LayerBlobs(proto, shapes, _reader(step), declared))
        own = [i for i, blob in enumerate(step.blobs) if id(blob._diff) not in seen]
        seen |= {id(blob._diff) for blob in step.blobs}
        owned.append(own)
    return layers, owned


def _reader(step: Step) -> Callable[[], list[FloatArray]]:
    return lambda: [blob.data for blob in step.blobs]


def save_binary(path: str, name: str, steps: Sequence[Step]) -> None:
    """Write the net called ``name`` as Caffe's Net::ToProto has it."""
    with atomic_write(path) as file:
        write_layers(file, path, name, layers_of(steps)[0])


def save_hdf5(path: str, steps: Sequence[Step]) -> None:
    """Write ``/data/LAYER/INDEX``, each shared blob once."""
    _, owned = layers_of(steps)
    with atomic_write(path) as file:
        write_hdf5(
            file,
            [
                (step.name, {index: step.blobs[index].data for index in indices})
                for step, indices in zip(steps, owned, strict=True)
            ],
        )
