"""MemoryData: arrays that a program hands over (Caffe: memory_data_layer.cpp)."""

from __future__ import annotations

import numpy as np

from caffe2torch.data.source import ArraySource, Reading, check_tops, register_source
from caffe2torch.graph import FloatArray
from caffe2torch.io.schema import Message
from caffe2torch.layers import memory_data, net_error


@register_source("MemoryData")
class MemoryData(ArraySource):
    """Top 0: images (N, C, H, W), top 1: their labels (N), out of arrays of a multiple of N.

    ``set_arrays`` hands the arrays over; without it a batch is an error. They are not
    transformed. Errors: NetError for sizes that are not positive, arrays of another shape, and
    batches before there are any arrays.
    """

    no_effect = ("transform_param",)

    def __init__(self, proto: Message, reading: Reading) -> None:
        check_tops(proto, 2, 2)
        memory_data.MemoryData.from_proto(proto)  # Refuses sizes that are not positive.
        param = self.param = proto.memory_data_param
        self.proto = proto
        shape = (param.batch_size, param.channels, param.height, param.width)
        self.shapes = (shape, shape[:1])
        self._arrays: tuple[FloatArray, FloatArray] | None = None

    def set_arrays(self, data: FloatArray, labels: FloatArray) -> None:
        """Have batches made of ``data`` (R, C, H, W) and ``labels`` (R, or R, 1, 1, 1).

        R is a multiple of the batch size. The arrays are not copied: what is written to them
        later is in later batches. Batch 0 is their beginning.
        """
        images, rows = self.shapes[0], len(data)
        if data.shape[1:] != images[1:] or data.dtype != np.float32:
            raise net_error(
                self.proto,
                f"the data are {data.shape} of {data.dtype}; they must be (rows, "
                f"{', '.join(map(str, images[1:]))}) of float32",
            )
        if labels.size != rows or labels.shape[:1] != (rows,) or labels.dtype != np.float32:
            raise net_error(
                self.proto,
                f"the labels are {labels.shape} of {labels.dtype}; they must be ({rows},) of "
                "float32, one for each row of the data",
            )
        if not rows or rows % images[0]:
            raise net_error(
                self.proto, f"{rows} rows are no multiple of the batch size {images[0]}"
            )
        self._arrays = data, labels

    def arrays(self, index: int) -> tuple[FloatArray, ...]:
        """Batch ``index`` of the arrays, over and over."""
        if self._arrays is None:
            raise net_error(
                self.proto,
                "it reads arrays that a program sets (net.set_input_arrays in pycaffe), and none "
                "are set: train with another data layer, such as HDF5Data, or in such a program",
            )
        data, labels = self._arrays
        size = self.shapes[0][0]
        start = index * size % len(data)
        part = slice(start, start + size)
        return data[part].copy(), labels[part].reshape(-1).copy()
