"""Memory that processes share for finished batches, used again and again."""

from __future__ import annotations

import itertools
import weakref
from collections import deque
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from caffe2torch.errors import WorkerError, first_line

Array = npt.NDArray[Any]

HELD = 3
"""Batches in use at the same time: in a step, on the way to it, and just arrived."""

_keys = itertools.count()
_known: weakref.WeakValueDictionary[int, Slots] = weakref.WeakValueDictionary()


class Slots:
    """``count`` arrays of a shape and a type, which worker processes fill.

    The kernel clears all memory that is asked for anew, which takes almost as long as resizing the
    images that it is for; torch's workers ask for each batch. A slot is taken in one process,
    filled in another that has its number, and free again as soon as the first has no reference
    any more to the tensor that comes of it. Raises WorkerError where memory is short.
    """

    def __init__(
        self,
        count: int,
        shape: tuple[int, ...],
        dtype: npt.DTypeLike,
        *,
        channels_last: bool = False,
    ) -> None:
        if channels_last:  # Of arrays (N, C, H, W), whose channels lie together.
            shape = (shape[0], *shape[2:], shape[1])
        memory = torch.from_numpy(np.empty((count, *shape), dtype))
        if count:
            _share(memory)
        self._memory = memory.permute(0, 1, 4, 2, 3) if channels_last else memory
        self._free = deque(range(count))
        self._key = next(_keys)
        _known[self._key] = self

    def take(self, rows: int) -> int | None:
        """The number of a slot for an array of so many rows; None if none is free or as long."""
        return self._free.popleft() if self._free and rows <= self._memory.shape[1] else None

    def array(self, slot: int, rows: int) -> Array:
        """The first rows of a slot, to be filled."""
        array: Array = self._memory[slot, :rows].numpy()
        return array

    def fill(self, slot: int, array: Array) -> bool:
        """Copy an array to a slot; False if its shape or its type is not that of the slots."""
        memory = self.array(slot, len(array))
        if memory.shape != array.shape or memory.dtype != array.dtype:
            return False
        memory[...] = array
        return True

    def sent(self, slot: int, rows: int) -> Tensor:
        """What a worker sends of a slot, which arrives as a tensor."""
        return cast("Tensor", _Sent(self._key, slot, rows))

    def received(self, slot: int, rows: int) -> Tensor:
        """The first rows of a slot, free again when no tensor or view of one refers to it."""
        array = self.array(slot, rows)
        weakref.finalize(array, self._free.append, slot).atexit = False
        return torch.from_numpy(array)


def _share(memory: Tensor) -> None:
    """Move a tensor to memory that processes share."""
    try:
        memory.share_memory_()  # type: ignore[no-untyped-call]  # untyped in torch
    except RuntimeError as error:
        raise WorkerError(
            f"no {memory.nbytes / 1e6:.0f} MB of shared memory (on Linux: /dev/shm) are free for "
            f"the batches that processes make ahead ({first_line(error)}): load without processes "
            "(--workers 0), take smaller batches, or give a container more of it (docker run "
            "--shm-size)"
        ) from error


class _Sent:
    """A slot on its way between processes."""

    def __init__(self, *place: int) -> None:
        self.place = place

    def __reduce__(self) -> Any:
        return _receive, self.place


def _receive(key: int, slot: int, rows: int) -> Tensor:
    return _known[key].received(slot, rows)
