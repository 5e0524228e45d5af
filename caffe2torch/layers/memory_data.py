"""MemoryData: arrays that a program hands to the net."""

from __future__ import annotations

from caffe2torch.io.schema import Message
from caffe2torch.layers import TEXT_ONLY, Parameters, register_layer
from caffe2torch.layers._base import net_error
from caffe2torch.layers._data import DataLayer


@register_layer()
class MemoryData(DataLayer):
    """Top 0: images (N, C, H, W), top 1: their labels (Caffe: memory_data_layer.cpp).

    ``batch_size``, ``channels``, ``height`` and ``width`` are required and positive. naibaf7's
    fork has ``dim`` in their place, once an axis: N, C and one or more sizes.
    """

    type = "MemoryData"
    tops = (2, 2)
    parameter = "memory_data_param"
    parameters = Parameters("memory_data_param", f"repeated uint32 dim = {TEXT_ONLY};")

    @classmethod
    def crop_of(cls, proto: Message) -> tuple[int, ...] | None:
        param = proto.memory_data_param
        shape = cls.parameters.of(proto).dim
        if len(shape) > 2 and all(shape):
            return tuple(shape[2:])
        for field in ("batch_size", "channels", "height", "width"):
            if not getattr(param, field):
                raise net_error(proto, "must be positive", f"{cls.parameter}.{field}")
        return param.height, param.width

    @classmethod
    def channels_of(cls, proto: Message) -> int | None:
        shape = cls.parameters.of(proto).dim
        return int(shape[1]) if len(shape) > 2 else int(proto.memory_data_param.channels)
