"""MemoryData: arrays that a program hands to the net."""

from __future__ import annotations

from caffe2torch.io.schema import Message
from caffe2torch.layers import register_layer
from caffe2torch.layers._base import net_error
from caffe2torch.layers._data import DataLayer


@register_layer()
class MemoryData(DataLayer):
    """Top 0: images (N, C, H, W), top 1: their labels (Caffe: memory_data_layer.cpp).

    ``batch_size``, ``channels``, ``height`` and ``width`` are required and positive.
    """

    type = "MemoryData"
    tops = (2, 2)
    parameter = "memory_data_param"

    @classmethod
    def crop_of(cls, proto: Message) -> tuple[int, int] | None:
        param = proto.memory_data_param
        for field in ("batch_size", "channels", "height", "width"):
            if not getattr(param, field):
                raise net_error(proto, "must be positive", f"{cls.parameter}.{field}")
        return param.height, param.width

    @classmethod
    def channels_of(cls, proto: Message) -> int | None:
        return int(proto.memory_data_param.channels)
