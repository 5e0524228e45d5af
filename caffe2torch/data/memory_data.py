"""MemoryData: arrays that a program hands over (Caffe: memory_data_layer.cpp)."""

from __future__ import annotations

from caffe2torch.data.source import ArraySource, Reading, check_tops, register_source
from caffe2torch.graph import FloatArray
from caffe2torch.io.schema import Message
from caffe2torch.layers import memory_data, net_error


@register_source("MemoryData")
class MemoryData(ArraySource):
    """Top 0: images (N, C, H, W), top 1: their labels (N), once a program has set them.

    A program that does puts a source of its arrays in the place of this one. Errors: NetError for
    sizes that are not positive, and for every batch.
    """

    no_effect = ("transform_param",)

    def __init__(self, proto: Message, reading: Reading) -> None:
        check_tops(proto, 2, 2)
        memory_data.MemoryData.from_proto(proto)  # Refuses sizes that are not positive.
        self.proto, param = proto, proto.memory_data_param
        shape = (param.batch_size, param.channels, param.height, param.width)
        self.shapes = (shape, shape[:1])

    def arrays(self, index: int) -> tuple[FloatArray, ...]:
        """Raise NetError."""
        raise net_error(
            self.proto,
            "it reads arrays that a program sets (net.set_input_arrays in pycaffe), and none are "
            "set: train with another data layer, such as HDF5Data, or in such a program",
        )
