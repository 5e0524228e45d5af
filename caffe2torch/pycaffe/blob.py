"""Blobs and the vectors of them: what ``caffe.Net`` shows of its memory (_caffe.cpp)."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from math import prod
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from caffe2torch.graph import Shape

MAX_COUNT = 2**31 - 1
CPU = torch.device("cpu")


class Values(npt.NDArray[np.float32]):
    """The array of a blob: one of a single number can be taken for that number.

    NumPy did so for arrays of any axes until 2.4 (``losses[i] = net.blobs["loss"].data``, where
    the loss has the shape (1,)). What is computed from the array is a plain one.
    """

    def __float__(self) -> float:
        return float(self._only())

    def __int__(self) -> int:
        return int(self._only())

    def _only(self) -> Any:
        if self.size != 1:
            raise TypeError(f"an array of the shape {self.shape} is no single number")
        return self.item()

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        if array is self:  # Computed in place.
            return array
        return np.asarray(array) if array.ndim else array[()]

    def __repr__(self) -> str:
        return repr(np.asarray(self))

    def __reduce__(self) -> Any:
        return np.asarray(self).__reduce__()


class Memory:
    """Float32 numbers that one or several blobs show (Caffe: SyncedMemory).

    It has no room at first and begins as zeros. As long as no program holds an array on it, a
    layer's result becomes the memory; arrays that a program holds are written to, so that they
    always show the present values. On a GPU it lies wherever it was used last.
    """

    __slots__ = ("_array", "_tensor", "capacity", "changes")

    def __init__(self) -> None:
        self.capacity = 0
        self.changes = 0
        """Grows whenever the numbers may have changed."""
        self._tensor: Tensor | None = None
        self._array: weakref.ref[npt.NDArray[np.float32]] | None = None

    @classmethod
    def of(cls, values: npt.NDArray[np.float32]) -> Memory:
        """The memory of an array, contiguous and writable."""
        memory = cls()
        memory.put(torch.from_numpy(values))
        return memory

    @property
    def tensor(self) -> Tensor:
        """All numbers, flat."""
        if self._tensor is None:
            self._tensor = torch.zeros(self.capacity)
        return self._tensor

    @property
    def is_held(self) -> bool:
        """Whether a program holds an array on it."""
        return self._array is not None and self._array() is not None

    def resize(self, count: int) -> None:
        """Make room for ``count`` numbers: new memory, of zeros, where there is less."""
        if count > self.capacity:
            self.capacity, self._tensor, self._array = count, None, None

    def array(self, shape: Shape) -> npt.NDArray[np.float32]:
        """The first numbers as an array that writes through."""
        self.changes += 1
        array = None if self._array is None else self._array()
        if array is None:
            if self.tensor.device != CPU:
                self._tensor = self.tensor.cpu()
            array = self.tensor.numpy().view(Values)
            self._array = weakref.ref(array)
        return array[: prod(shape)].reshape(shape)

    def view(self, shape: Shape, device: torch.device = CPU) -> Tensor:
        """The first numbers as a tensor on ``device``, which autograd takes for a new one."""
        tensor = self.tensor
        if tensor.device != device:
            tensor = tensor.to(device)
            if not self.is_held:
                self._tensor = tensor
        count = prod(shape)
        return (tensor if count == len(tensor) else tensor[:count]).view(shape).data

    def put(self, value: Tensor) -> None:
        """Have the first numbers be those of ``value``, whose memory may become this one."""
        self.changes += 1
        if value.numel() > self.capacity or not self.is_held:
            self._tensor = value.data.reshape(-1)
            self.capacity, self._array = value.numel(), None
        else:
            self.tensor[: value.numel()].copy_(value.data.reshape(-1))


class Blob:
    """An array of a net, with its gradient: ``data`` and ``diff`` write through.

    Nets make blobs, programs do not (RuntimeError).
    """

    def __init__(self) -> None:
        raise RuntimeError("This class cannot be instantiated from Python")

    _data: Memory
    _diff: Memory
    _shape: Shape

    @classmethod
    def _of(cls, shape: Shape, data: Memory | None = None, diff: Memory | None = None) -> Blob:
        blob = cls.__new__(cls)
        blob._data, blob._diff = data or Memory(), diff or Memory()
        blob._resize(shape)
        return blob

    def _resize(self, shape: Shape) -> None:
        self._shape = shape
        count = prod(shape)
        self._data.resize(count)
        self._diff.resize(count)

    def _put(self, value: Tensor) -> None:
        """Take the shape and the values of a layer's top."""
        self._data.put(value)
        self._shape = tuple(value.shape)
        self._diff.resize(self.count)

    @property
    def data(self) -> npt.NDArray[np.float32]:
        """The values."""
        return self._data.array(self._shape)

    @property
    def diff(self) -> npt.NDArray[np.float32]:
        """The gradient of the loss by them."""
        return self._diff.array(self._shape)

    @property
    def shape(self) -> IntVec:
        """The sizes of all axes."""
        return IntVec(self._shape)

    @property
    def count(self) -> int:
        """The number of values."""
        return prod(self._shape)

    @property
    def num(self) -> int:
        """The size of the first of four axes; 1 where there is none. So are the next three."""
        return self._legacy(0)

    @property
    def channels(self) -> int:
        """The size of the second axis."""
        return self._legacy(1)

    @property
    def height(self) -> int:
        """The size of the third axis."""
        return self._legacy(2)

    @property
    def width(self) -> int:
        """The size of the fourth axis."""
        return self._legacy(3)

    def reshape(self, *sizes: int, **keywords: Any) -> None:
        """Give the blob another shape.

        Its memory and values stay where they have room; a larger one has zeros.

        Raises:
            TypeError: a size is no whole number.
            RuntimeError: a keyword, a negative size, or more than 2**31 - 1 values.
        """
        if keywords:
            raise RuntimeError("Blob.reshape takes no keyword arguments")
        for size in sizes:
            if not isinstance(size, (int, np.integer)):
                raise TypeError(
                    f"Blob.reshape takes one whole number an axis, not {size!r}; write "
                    "reshape(*shape) for a list"
                )
        shape = tuple(map(int, sizes))
        if min(shape, default=0) < 0 or prod(shape) > MAX_COUNT:
            raise RuntimeError(f"a blob cannot have the shape {shape}")
        self._resize(shape)

    def _legacy(self, axis: int) -> int:
        if len(self._shape) > 4:
            raise RuntimeError(
                f"num, channels, height and width are of blobs with at most 4 axes; this has "
                f"the shape {self._shape}: use shape"
            )
        return self._shape[axis] if axis < len(self._shape) else 1

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise RuntimeError("a Blob cannot be pickled or copied; copy its data")


class _Vec(tuple[Any, ...]):
    """A vector of C++ that programs only read: it has a length, items, and slices."""

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return type(self)(found) if isinstance(index, slice) else found


class IntVec(_Vec):
    """Whole numbers."""


class StringVec(_Vec):
    """Names."""


class DtypeVec(_Vec):
    """Numbers."""


class BoolVec(_Vec):
    """Truth values."""


class NetVec(_Vec):
    """Nets."""


class LayerVec(_Vec):
    """Layers."""


class BlobVec(list[Blob]):
    """A layer's learned blobs, or its bottoms or tops."""

    def __init__(self, blobs: Iterable[Blob] = ()) -> None:
        super().__init__(blobs)

    def add_blob(self, *sizes: int, **keywords: Any) -> None:
        """Append a blob of zeros with these sizes."""
        blob = Blob._of(())
        blob.reshape(*sizes, **keywords)
        self.append(blob)


RawBlobVec = BlobVec
