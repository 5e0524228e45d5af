"""The inputs of a net: their names, the shapes that are declared, and what they are set to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.schema import Message
from caffe2torch.opencv.errors import OpenCVError


class Inputs:
    """The inputs of the net ``proto``.

    ``blobs`` are their blobs in the order of the net, ``shapes`` what the program declared and
    the prototxt may lack, ``arrays`` what was set. The last two are by blob.
    """

    def __init__(self, proto: Message) -> None:
        self._proto = proto
        self._others: tuple[str, ...] = ()
        self.blobs: list[str] = [*proto.input, *_tops(proto)]
        self.shapes: dict[str, Shape] = {}
        self.arrays: dict[str, FloatArray] = {}

    def names(self) -> list[str]:
        """What the program calls them."""
        return [*self._others, *self.blobs[len(self._others) :]]

    def rename(self, names: Sequence[str]) -> None:
        """Give the first of them other names."""
        if len(names) > len(self.blobs):
            raise OpenCVError(
                f"setInputsNames: {len(names)} names, but the net has {len(self.blobs)} inputs: "
                f"{listed(self.blobs)}."
            )
        self._others = tuple(map(str, names))

    def find(self, name: str, method: str) -> str:
        """The blob that the program calls ``name``, the first without one; for ``method``."""
        names = self.names()
        if not names:
            raise OpenCVError(f"{method}: the net has no input.")
        if name and name not in names:
            raise OpenCVError(f"{method}: the net has no input {name!r}; it has {listed(names)}.")
        return self.blobs[names.index(name) if name else 0]

    def open(self) -> list[str]:
        """The blobs whose shapes nobody has said yet."""
        proto = self._proto
        names = [] if proto.input_dim or proto.input_shape else list(proto.input)
        names += _tops(proto, only_open=True)
        return [name for name in names if name not in self.shapes]


def scaled(blob: Any, scalefactor: float, mean: Any) -> FloatArray:
    """A float32 array, scalefactor * (blob - mean)."""
    array = np.asarray(blob)
    if array.dtype.kind not in "fiub" or not array.size:
        raise OpenCVError(f"setInput: {array.dtype} {array.shape} is no blob of numbers.")
    value = np.array(array, np.float32, order="C")
    return np.asarray((value - _channels(mean, value.shape)) * np.float32(scalefactor))


def listed(names: Sequence[str]) -> str:
    """Names for an error."""
    return ", ".join(repr(name) for name in names)


def _tops(proto: Message, only_open: bool = False) -> list[str]:
    """The blobs of the Input layers, or of those that give no shape."""
    layers = [layer for layer in proto.layer if layer.type == "Input"]
    return [
        top for layer in layers if not (only_open and layer.input_param.shape) for top in layer.top
    ]


def _channels(mean: Any, shape: Shape) -> FloatArray:
    """``mean`` as an array that a blob of ``shape`` can be lessened by."""
    values = np.zeros(4, np.float32)
    given = np.atleast_1d(np.asarray(mean, np.float32)).reshape(-1)
    if given.size > 4:
        raise OpenCVError(f"setInput: a mean has at most 4 numbers, not {given.size}.")
    values[: given.size] = given
    if not values.any():
        return np.zeros((), np.float32)
    if len(shape) < 2 or shape[1] > 4:
        raise OpenCVError(f"setInput: a mean needs a blob of at most 4 channels, not {shape}.")
    return values[: shape[1]].reshape(-1, *[1] * (len(shape) - 2))
