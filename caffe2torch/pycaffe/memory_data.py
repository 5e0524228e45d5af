"""MemoryData: batches out of arrays of the program (memory_data_layer.cpp)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.data.source import ArraySource
from caffe2torch.graph import FloatArray, Shape
from caffe2torch.pycaffe.steps import DataStep, Step


class SetArrays(ArraySource):
    """Batches of ``data`` (N, C, H, W) with ``labels``, from the start again after the last."""

    def __init__(self, data: FloatArray, labels: FloatArray, size: int) -> None:
        self.data, self.labels, self.size = data, labels, size
        self.shapes: tuple[Shape, ...] = ((size, *data.shape[1:]), (size, 1, 1, 1))

    def arrays(self, index: int) -> tuple[FloatArray, ...]:
        """Copies of the arrays' present values."""
        first = index * self.size % len(self.data)
        rows = slice(first, first + self.size)
        labels = self.labels[rows].reshape(self.shapes[1])
        return self.data[rows].copy(), labels.copy()


def set_input_arrays(steps: Sequence[Step], data: Any, labels: Any) -> None:
    """Have the MemoryData layer that a net begins with read two arrays; see Net's method."""
    step = steps[0] if steps else None
    if not isinstance(step, DataStep) or step.type != "MemoryData":
        raise RuntimeError("set_input_arrays needs a net whose first layer is a MemoryData")
    if isinstance(labels, np.ndarray) and labels.ndim == 1:
        labels = labels[:, None, None, None]
    param = step.proto.memory_data_param
    for array, what, sizes in (
        (data, "data", (param.channels, param.height, param.width)),
        (labels, "labels", (1, 1, 1)),
    ):
        if not isinstance(array, np.ndarray) or array.dtype != np.float32:
            raise RuntimeError(f"{what} is no array of float32; convert it with astype")
        if not array.flags.c_contiguous:
            raise RuntimeError(f"{what} is not contiguous; pass numpy.ascontiguousarray of it")
        if array.ndim != 4 or array.shape[1:] != sizes:
            wanted = ", ".join(map(str, sizes))
            raise RuntimeError(f"{what} has the shape {array.shape}, and not (N, {wanted})")
    if len(data) != len(labels):
        raise RuntimeError(f"there are {len(data)} items of data and {len(labels)} labels")
    if not len(data) or len(data) % param.batch_size:
        raise RuntimeError(
            f"{len(data)} items are no multiple of the batch size {param.batch_size}"
        )
    step.feed(SetArrays(data, labels, param.batch_size))
