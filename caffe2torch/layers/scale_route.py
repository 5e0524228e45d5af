"""ScaleRoute: the regions of one level of a feature pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
)

HIGHEST = float(np.finfo(np.float32).max)


@register_layer()
class ScaleRoute(Layer):
    """The regions whose size is in a range (Cascade R-CNN's Caffe: scale_route_layer.cpp).

    Bottoms: regions (R, 5), rows (image, x1, y1, x2, y2), and any others of R items. The tops are
    the items of the bottoms, as many, whose region's scale is in [``low_scale``,
    ``high_scale``), the defaults being no limits. A region's scale is the square root of its
    area (x2 - x1 + 1) (y2 - y1 + 1), 0 for an inverted one. If there is none, it is the one item
    of which the scale is the nearest, by its logarithm, to the middle of the range: the
    geometric mean, the one limit that is given, or 256. Tops have four axes or more.
    """

    type = "ScaleRoute"
    bottoms = (1, None)
    tops = (1, None)
    same_bottoms_and_tops = True
    free_axes = frozenset({0})
    parameters = Parameters(
        "scale_route_param",
        """
        optional float low_scale = 1;
        optional float high_scale = 2;
        """,
    )

    low: float
    high: float
    middle: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = cls.parameters.of(proto)
        given = [getattr(p, f) for f in ("low_scale", "high_scale") if p.HasField(f)]
        low = p.low_scale if p.HasField("low_scale") else 0.0
        high = p.high_scale if p.HasField("high_scale") else HIGHEST
        if any(limit <= 0 for limit in given) or high < low:
            raise net_error(
                proto, f"from {low:g} to {high:g} is not a range of scales", "scale_route_param"
            )
        middle = sqrt(low * high) if len(given) == 2 else (given or [256.0])[0]
        return cls(proto.name, low, high, middle)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        regions = bottoms[0]
        if len(regions) < 2 or regions[1] != 5 or np.prod(regions[2:]) != 1:
            raise self.net_error(f"the regions' shape {regions} is not (R, 5)")
        for shape in bottoms:
            if not 2 <= len(shape) <= 4 or shape[0] != regions[0]:
                raise self.net_error(f"a bottom's shape {shape} is not of {regions[0]} items")
        return [(1, *_four(shape)) for shape in bottoms]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        tops = t.runtime.route_by_scale(tuple(inputs), self.low, self.high, self.middle)
        return tops if len(bottoms) > 1 else tops[0]

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        regions = g.op("Reshape", inputs[0], g.const([-1, 5], np.int64))
        parts = g.const([1, 2, 2], np.int64)
        _, low, high = g.op("Split", regions, parts, axis=1, outputs=3)
        side = g.op("Add", g.op("Sub", high, low), g.const(1.0))
        side = g.op("Where", g.op("Less", high, low), g.const(0.0), side)
        scale = g.op("Sqrt", g.op("ReduceProd", side, axes=[1], keepdims=0))
        above = g.op("GreaterOrEqual", scale, g.const(self.low))
        chosen = g.op("And", above, g.op("Less", scale, g.const(self.high)))
        places = g.op("Reshape", g.op("NonZero", chosen), g.const([-1], np.int64))
        distance = g.op("Abs", g.op("Log", g.op("Div", scale, g.const(self.middle))))
        nearest = g.op("ArgMin", distance, axis=0, keepdims=1)
        number = g.op("Shape", places)
        empty = g.op("Cast", g.op("Equal", number, g.const([0], np.int64)), to=7)
        spare = g.op("Slice", nearest, g.const([0], np.int64), empty)
        index = g.op("Concat", places, spare, axis=0)
        tops = []
        for value in inputs:
            shape = g.const([-1, *_four(g.shape(value))], np.int64)
            tops.append(g.op("Reshape", g.op("Gather", value, index, axis=0), shape))
        return tops


def _four(shape: Shape) -> Shape:
    """The axes of an item, with those of size 1 that Caffe adds to make four with the first."""
    return (*shape[1:], *[1] * (4 - len(shape)))
