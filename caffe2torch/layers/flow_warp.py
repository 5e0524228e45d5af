"""FlowWarp: an image moved back along a flow field."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import Layer, OnnxBuilder, Parameters, TorchBuilder, register_layer
from caffe2torch.layers._onnx import check_constant, to_int
from caffe2torch.layers._spatial import require_axes


@register_layer()
class FlowWarp(Layer):
    """y[p] = image[p + flow[p]], bilinear between the four pixels around that place.

    FlowNet 2: flow_warp_layer.cpp. Bottoms: image (N, C, H, W), flow (N, 2, H, W), whose first
    channel is along the columns. Places outside of 0 <= x < W, 0 <= y < H give 0, or NaN with
    ``fill_value: NOT_A_NUMBER``. Between the last pixel and the edge, the last pixel holds.
    Errors: other shapes.
    """

    type = "FlowWarp"
    parameters = Parameters(
        "flow_warp_param",
        """
        enum FillParameter { ZERO = 1; NOT_A_NUMBER = 2; }
        optional FillParameter fill_value = 1 [default = ZERO];
        """,
    )
    bottoms = (2, 2)

    outside: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        zero = enum_name(cls.parameters.of(proto), "fill_value") == "ZERO"
        return cls(name=proto.name, outside=0.0 if zero else math.nan)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        image, flow = bottoms
        require_axes(self, image)
        wanted = (image[0], 2, *image[2:])
        if flow != wanted:
            raise self.net_error(
                f"a flow of shape {flow} does not fit an image of shape {image}: it needs {wanted}"
            )
        return [image]

    def keeps_finite(self, bottoms: Sequence[Shape]) -> bool:
        return self.outside == 0

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        t.check(self, inputs)
        outside = 0.0 if self.outside == 0 else t.math.nan
        return t.runtime.flow_warp(*inputs, outside)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        image, flow = inputs
        _, channels, height, width = g.shape(image)
        check_constant(height * width)
        parts = g.op("Split", flow, outputs=2, axis=1)
        grids = np.arange(width)[None], np.arange(height)[:, None]
        places = [g.op("Add", p, g.const(n)) for p, n in zip(parts, grids, strict=True)]
        inside = ""
        for place, size in zip(places, (width, height), strict=True):
            for fits in (
                g.op("GreaterOrEqual", place, g.const(0.0)),
                g.op("Less", place, g.const(float(size))),
            ):
                inside = g.op("And", inside, fits) if inside else fits
        places = [g.op("Where", inside, place, g.const(0.0)) for place in places]
        firsts = [g.op("Floor", place) for place in places]
        alpha, beta = (g.op("Sub", p, f) for p, f in zip(places, firsts, strict=True))
        lasts = [
            g.op("Min", g.op("Add", first, g.const(1.0)), g.const(float(size - 1)))
            for first, size in zip(firsts, (width, height), strict=True)
        ]
        rest_x, rest_y = (g.op("Sub", g.const(1.0), share) for share in (alpha, beta))
        flat = g.op("Reshape", image, g.const([0, 0, height * width], np.int64))
        (left, top), (right, bottom) = firsts, lasts
        corners = [
            (top, left, rest_y, rest_x),
            (top, right, rest_y, alpha),
            (bottom, left, beta, rest_x),
            (bottom, right, beta, alpha),
        ]
        total = ""
        for rows, columns, share_y, share_x in corners:
            index = g.op("Add", g.op("Mul", rows, g.const(float(width))), columns)
            index = g.op("Reshape", to_int(g, index), g.const([0, 1, -1], np.int64))
            index = g.op("Expand", index, g.const([1, channels, 1], np.int64))
            pixels = g.op("GatherElements", flat, index, axis=2)
            pixels = g.op("Reshape", pixels, g.const([0, 0, height, width], np.int64))
            part = g.op("Mul", g.op("Mul", share_y, share_x), pixels)
            total = g.op("Add", total, part) if total else part
        return [g.op("Where", inside, total, g.const(self.outside))]
