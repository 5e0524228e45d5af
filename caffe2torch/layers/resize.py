"""Resize: maps resized by bilinear interpolation between the corners of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    TEXT_ONLY,
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
    unsupported,
)
from caffe2torch.layers._resize import ResizedMap
from caffe2torch.layers._runtime.resize_places import corner_places


@register_layer()
class Resize(ResizedMap):
    """y[p] = x at p * size / new size, bilinear, with zeros after the last row and column.

    Fork: happynear/caffe-windows (from DenseBox), resize_layer.cpp, for (N, C, H, W). The
    size is ``height``, ``width``, or with ``is_pyramid_test`` the whole part of H
    ``out_height_scale``, W ``out_width_scale``; all required. In zimenglan-sysu-512's fork, whose
    layer computes the same, the factors are ``height_fac`` and ``width_fac``. Errors: none given,
    sizes and factors, empty top. Refused: ``height`` and ``width`` alone, with which other forks
    resize as OpenCV does (Akrit2013) or as Interp (tinghuiz/appearance-flow). With
    ``is_pyramid_test: false`` it is this layer.
    """

    type = "Resize"
    size_field = "height"
    parameters = Parameters(
        "resize_param",
        f"""
        optional uint32 height = 1;
        optional uint32 width = 2;
        optional bool is_pyramid_test = 3 [default = false];
        optional float out_height_scale = 4;
        optional float out_width_scale = 5;
        optional float height_fac = {TEXT_ONLY};
        optional float width_fac = {TEXT_ONLY + 1};
        """,
    )

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = cls.parameters.of(proto)
        fields = ("height", "width")
        if p.is_pyramid_test:
            fields = ("out_height_scale", "out_width_scale")
        elif p.HasField("height_fac") or p.HasField("width_fac"):
            if p.HasField("height") or p.HasField("width"):
                raise net_error(proto, "a size and factors are given; keep one", "resize_param")
            fields = ("height_fac", "width_fac")
        for field in fields:
            if not p.HasField(field):
                raise net_error(proto, "it is required", f"resize_param.{field}")
        if "height" in fields and not p.HasField("is_pyramid_test"):
            raise unsupported(
                proto,
                "forks resize to a height and width in three ways, and the net does not say whose "
                "it is: write is_pyramid_test: false for that of DenseBox and happynear; where "
                "that of appearance-flow enlarges, make it an Interp of this height and width",
                "resize_param",
            )
        down, along = (getattr(p, field) for field in fields)
        if "height" in fields:
            return cls(name=proto.name, size=(down, along), scale=(0.0, 0.0))
        return cls(name=proto.name, size=None, scale=(down, along))

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        size = self.size or t.runtime.scaled_size(inputs[0], self.scale)
        return t.runtime.resize_by_corners(inputs[0], size)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        x, shape = inputs[0], g.shape(inputs[0])
        x = g.op("Pad", x, g.const([0] * 6 + [1, 1], np.int64))
        for axis, size in zip((2, 3), self.sizes(shape[2:]), strict=True):
            places, weights = corner_places(shape[axis], size)
            weight = np.array(weights).reshape(-1, *[1] * (3 - axis))
            below = g.op("Gather", x, g.const(places, np.int64), axis=axis)
            above = g.op("Gather", x, g.const([p + 1 for p in places], np.int64), axis=axis)
            below = g.op("Mul", below, g.const(1 - weight))
            x = g.op("Add", below, g.op("Mul", above, g.const(weight)))
        return [x]
