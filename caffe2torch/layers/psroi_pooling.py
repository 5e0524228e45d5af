"""PSROIPooling: position-sensitive averages of regions of a map (R-FCN)."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
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
from caffe2torch.layers._onnx import check_constant, to_float, to_int
from caffe2torch.layers._regions import check_regions

DOUBLE = 11
"""Value of onnx.TensorProto.DataType."""


@register_layer()
class PSROIPooling(Layer):
    """Each bin averages a channel of its own (R-FCN's Caffe: psroi_pooling_layer.cpp).

    Bottoms: a map (N, D * G * G, H, W), channel (d, i, j); regions (R, 5), rows (image, x1,
    y1, x2, y2) in the pixels of the image. The top is (R, D, G, G) with D ``output_dim`` and
    G ``group_size``. A region reaches from round(x1) to round(x2) + 1, halves away from
    zero, both times ``spatial_scale``, and is at least 0.1 wide. Bin i reaches from
    floor(x1 + i size / G) to ceil(x1 + (i + 1) size / G) and is cut off at the border of the
    map. A bin without a cell gives 0. An image index outside the batch is an error at run
    time. Sums are differences of running sums, taken in float64.
    """

    type = "PSROIPooling"
    parameters = Parameters(
        "psroi_pooling_param",
        """
        optional float spatial_scale = 1;
        optional int32 output_dim = 2;
        optional int32 group_size = 3;
        """,
    )
    bottoms = (2, 2)

    spatial_scale: float
    output_dim: int
    group_size: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = cls.parameters.of(proto)
        for field in ("spatial_scale", "output_dim", "group_size"):
            if not p.HasField(field):
                raise net_error(proto, "is required but not given", f"psroi_pooling_param.{field}")
        for field in ("output_dim", "group_size"):
            if getattr(p, field) <= 0:
                raise net_error(proto, "must be greater than 0", f"psroi_pooling_param.{field}")
        return cls(proto.name, p.spatial_scale, p.output_dim, p.group_size)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        data, regions = bottoms
        check_regions(self, data, regions)
        channels = self.output_dim * self.group_size**2
        if data[1] != channels:
            raise self.net_error(
                f"the map has {data[1]} channels; output_dim {self.output_dim} and group_size"
                f" {self.group_size} need {channels}"
            )
        return [(regions[0], self.output_dim, self.group_size, self.group_size)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        sizes = self.output_dim, self.group_size
        return t.runtime.psroi_pool(*inputs, *sizes, self.spatial_scale)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        _, _, height, width = g.shape(inputs[0])
        regions = g.op("Reshape", inputs[1], g.const([-1, 5], np.int64))
        image, corners = g.op("Split", regions, g.const([1, 4], np.int64), axis=1, outputs=2)
        whole = g.op("Floor", g.op("Abs", corners))
        half = g.op("GreaterOrEqual", g.op("Sub", g.op("Abs", corners), whole), g.const(0.5))
        rounded = g.op("Mul", g.op("Add", whole, to_float(g, half)), g.op("Sign", corners))
        ones = g.const([1, 1, 1, 1], np.int64)
        x1, y1, x2, y2 = g.op("Split", rounded, ones, axis=1, outputs=4)
        rows, columns = (-1, 1, self.group_size, 1), (-1, 1, 1, self.group_size)
        top, bottom = self._bins_onnx(g, y1, y2, height, rows)
        left, right = self._bins_onnx(g, x1, x2, width, columns)
        sums = self._sums_onnx(g, inputs[0])
        plane = self._planes_onnx(g, to_int(g, image))

        def row(y: str) -> str:
            places = (self._place_onnx(g, plane, height, y, width, x) for x in (right, left))
            return str(g.op("Sub", *(g.op("Gather", sums, place) for place in places)))

        total = g.op("Sub", row(bottom), row(top))
        area = to_float(g, g.op("Mul", g.op("Sub", bottom, top), g.op("Sub", right, left)))
        mean = g.op("Div", to_float(g, total), g.op("Max", area, g.const(1.0)))
        zero = g.const(0.0)
        return [g.op("Where", g.op("Greater", area, zero), mean, zero)]

    def _bins_onnx(
        self, g: OnnxBuilder, first: str, last: str, limit: int, shape: Sequence[int]
    ) -> tuple[str, str]:
        scale, index = g.const(self.spatial_scale), np.arange(self.group_size)[None]
        low = g.op("Mul", first, scale)
        high = g.op("Mul", g.op("Add", last, g.const(1.0)), scale)
        size = g.op("Max", g.op("Sub", high, low), g.const(0.1))
        size = g.op("Div", size, g.const(float(self.group_size)))
        edges = []
        for offset, rounding in ((index, "Floor"), (index + 1, "Ceil")):
            edge = g.op("Add", g.op("Mul", g.const(offset.astype(np.float32)), size), low)
            edge = g.op("Clip", g.op(rounding, edge), g.const(0.0), g.const(float(limit)))
            edges.append(g.op("Reshape", to_int(g, edge), g.const(list(shape), np.int64)))
        return edges[0], edges[1]

    def _sums_onnx(self, g: OnnxBuilder, data: str) -> str:
        """Running sums in float64, (N, D * G * G, H + 1, W + 1) flattened."""
        padded = g.op("Pad", data, g.const([0, 0, 1, 1, 0, 0, 0, 0], np.int64))
        sums = g.op("Cast", padded, to=DOUBLE)
        for axis in (2, 3):
            sums = g.op("CumSum", sums, g.const(axis, np.int64))
        return str(g.op("Reshape", sums, g.const([-1], np.int64)))

    def _planes_onnx(self, g: OnnxBuilder, image: str) -> str:
        """The index (R, D, G, G) of each bin's map among those of all images."""
        # Gather would count an index below 0 from the end: make it one that is refused.
        zero, invalid = g.const(0, np.int64), g.const(2**31, np.int64)
        image = g.op("Where", g.op("Less", image, zero), invalid, image)
        image = g.op("Reshape", image, g.const([-1, 1, 1, 1], np.int64))
        shape = (self.output_dim, self.group_size, self.group_size)
        check_constant(prod(shape))
        channels = np.arange(prod(shape))
        first = g.op("Mul", image, g.const(len(channels), np.int64))
        return str(g.op("Add", first, g.const(channels.reshape(shape), np.int64)))

    def _place_onnx(
        self, g: OnnxBuilder, plane: str, height: int, y: str, width: int, x: str
    ) -> str:
        """The index of (y, x) of each plane in the flattened running sums."""
        row = g.op("Add", g.op("Mul", plane, g.const(height + 1, np.int64)), y)
        return str(g.op("Add", g.op("Mul", row, g.const(width + 1, np.int64)), x))
