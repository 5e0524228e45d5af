"""DeephiResize: maps resized as OpenCV resizes images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
    unsupported,
)
from caffe2torch.layers._resize import ResizedMap
from caffe2torch.layers._runtime.resize_places import nearest_places


@register_layer()
class DeephiResize(ResizedMap):
    """(N, C, H, W) resized (Xilinx' caffe-xilinx: deephi_resize_layer.cpp).

    The size is ``new_height``, ``new_width`` if they are given, else the whole part of H
    ``scale_h``, W ``scale_w`` (default 1). ``resize_type`` NEAREST, the default, takes pixel
    whole(p * size / new size) for p; BILINEAR has pixel centres at halves and repeats the
    border. Errors: only one of a pair, an empty top. ``use_dpu``, 8-bit arithmetic, is refused.
    """

    type = "DeephiResize"
    size_field = "scale_h"
    parameters = Parameters(
        "deephi_resize_param",
        """
        enum ResizeType { BILINEAR = 0; NEAREST = 1; }
        optional ResizeType resize_type = 1 [default = NEAREST];
        optional float scale_h = 2 [default = 1];
        optional float scale_w = 3 [default = 1];
        optional uint32 new_height = 4;
        optional uint32 new_width = 5;
        optional bool use_dpu = 6 [default = false];
        """,
    )

    bilinear: bool

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = cls.parameters.of(proto)
        if p.use_dpu:
            raise unsupported(proto, "it computes in 8 bits", "deephi_resize_param.use_dpu")
        for pair in (("new_height", "new_width"), ("scale_h", "scale_w")):
            if p.HasField(pair[0]) != p.HasField(pair[1]):
                raise net_error(
                    proto, f"give both {pair[0]} and {pair[1]}, or none", "deephi_resize_param"
                )
        return cls(
            name=proto.name,
            bilinear=enum_name(p, "resize_type") == "BILINEAR",
            scale=(p.scale_h, p.scale_w),
            size=(p.new_height, p.new_width) if p.HasField("new_height") else None,
        )

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        size = self.size or t.runtime.scaled_size(inputs[0], self.scale)
        if self.bilinear:
            return t.F.interpolate(inputs[0], size, mode="bilinear")
        return t.runtime.resize_nearest(inputs[0], size)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        x, shape = inputs[0], g.shape(inputs[0])
        sizes = self.sizes(shape[2:])
        if not self.bilinear:
            for axis, size in zip((2, 3), sizes, strict=True):
                places = g.const(nearest_places(shape[axis], size), np.int64)
                x = g.op("Gather", x, places, axis=axis)
            return [x]
        target = g.op("Concat", g.op("Shape", x, end=2), g.const(sizes, np.int64), axis=0)
        mode = "half_pixel"
        return [
            g.op("Resize", x, "", "", target, mode="linear", coordinate_transformation_mode=mode)
        ]
