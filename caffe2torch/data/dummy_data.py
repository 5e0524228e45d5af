"""DummyData: tops that fillers make (Caffe: dummy_data_layer.cpp)."""

from __future__ import annotations

from caffe2torch.data.source import ArraySource, Reading, check_tops, register_source
from caffe2torch.graph import FloatArray
from caffe2torch.io.schema import Message, message_class
from caffe2torch.layers import dummy_data
from caffe2torch.passes.fillers import check_filler, fill


@register_source("DummyData")
class DummyData(ArraySource):
    """Tops of the shapes that are given, filled with constants or with new random numbers a batch.

    ``data_filler`` is given once for all tops, once for each, or not at all (constant 0). The
    distributions are Caffe's, the numbers are not. Errors: those of the layer and of its fillers.
    """

    no_effect = ("transform_param",)

    def __init__(self, proto: Message, reading: Reading) -> None:
        check_tops(proto, 1, None)
        self.proto, self.reading = proto, reading
        dummy_data.DummyData.from_proto(proto)  # Refuses a wrong number of fillers or shapes.
        self.shapes = tuple(dummy_data.DummyData.sampled_shapes(proto))
        fillers = list(proto.dummy_data_param.data_filler)
        fillers = fillers or [message_class("FillerParameter")(type="constant")]
        self.fillers = fillers * len(self.shapes) if len(fillers) == 1 else fillers
        for filler, shape in zip(self.fillers, self.shapes, strict=True):
            check_filler(filler, shape)

    def arrays(self, index: int) -> tuple[FloatArray, ...]:
        """Batch ``index``; constant tops are the same in each."""
        random = self.reading.random(self.proto.name, index, self.reading.rank)
        tops = zip(self.fillers, self.shapes, strict=True)
        return tuple(fill(filler, shape, random).copy() for filler, shape in tops)
