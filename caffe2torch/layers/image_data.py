"""ImageData: image files named in a list."""

from __future__ import annotations

from caffe2torch.io.schema import Message
from caffe2torch.layers import register_layer
from caffe2torch.layers._base import net_error
from caffe2torch.layers._data import DataLayer


@register_layer()
class ImageData(DataLayer):
    """Top 0: images (N, C, H, W), top 1: their labels (Caffe: image_data_layer.cpp).

    Forks leave the labels out (``label: false``). C is 3, or 1 when ``is_color`` is false.
    Without a crop the images have the size ``new_height`` by ``new_width``, which are given
    together or not at all.
    """

    type = "ImageData"
    tops = (1, 2)
    parameter = "image_data_param"

    @classmethod
    def crop_of(cls, proto: Message) -> tuple[int, ...] | None:
        param = proto.image_data_param
        if bool(param.new_height) != bool(param.new_width):
            raise net_error(proto, "give both new_height and new_width, or none", cls.parameter)
        size = (param.new_height, param.new_width) if param.new_height else None
        return super().crop_of(proto) or size

    @classmethod
    def channels_of(cls, proto: Message) -> int | None:
        return 3 if proto.image_data_param.is_color else 1
