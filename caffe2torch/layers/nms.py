"""Nms: the peaks of maps, which OpenPose takes for joints."""

from __future__ import annotations

from collections.abc import Sequence
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
from caffe2torch.layers._onnx import to_float
from caffe2torch.layers._spatial import require_axes


@register_layer()
class Nms(Layer):
    """The peaks of the first ``num_parts`` (15) maps of (1, C, H, W): (1, num_parts, peaks + 1, 3).

    Fork: CMU-Perceptual-Computing-Lab/caffe_rtpose, nms_layer.cu (its code for the CPU writes two
    numbers a peak). A peak is above ``threshold`` (0.5) and above its eight neighbours; pixels at
    the border are none. Row 0 of a map begins with their number, which may exceed ``max_peaks``
    (20). Each other row is a peak from the top left on: its column and row, as means of the 7 x 7
    pixels around weighted by their values above 0, and its value. Other numbers are 0, where
    Caffe leaves those of the pass before.

    Of the 7 x 7 pixels that code leaves out columns and rows below 1 and from W on. So in maps
    wider than high it reads on into the next map, as is done here. Errors: not four axes or
    one item; fewer maps than parts, or as many in maps wider than high; fewer than 3 x 3 pixels.
    """

    type = "Nms"
    fixes_batch = True
    parameters = Parameters(
        "nms_param",
        """
        optional float threshold = 1 [default = 0.5];
        optional uint32 num_peak = 2 [default = 100];
        optional uint32 max_peaks = 3 [default = 20];
        optional uint32 num_parts = 4 [default = 15];
        """,
    )

    threshold: float
    most: int
    parts: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        for name in ("max_peaks", "num_parts"):
            if not getattr(param, name):
                raise net_error(proto, "must be positive", f"nms_param.{name}")
        return cls(proto.name, param.threshold, param.max_peaks, param.num_parts)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (shape,) = bottoms
        require_axes(self, shape)
        _, channels, height, width = shape
        if shape[0] != 1 or min(height, width) < 3:
            raise self.net_error(f"a bottom of shape {shape} is not one of at least (1, C, 3, 3)")
        if channels < self.parts + (width > height):
            raise self.net_error(
                f"{channels} maps are too few to read {self.parts} of {height} x {width}",
                "nms_param.num_parts",
            )
        return [(1, self.parts, self.most + 1, 3)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        t.check(self, inputs)
        return t.runtime.peaks_of(inputs[0], self.parts, self.most, self.threshold)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        def const(*values: int) -> str:
            return g.const(list(values), np.int64)

        def part(low: Sequence[int], high: Sequence[int]) -> str:
            return str(g.op("Slice", maps, const(*low), const(*high), const(0, 1, 2)))

        height, width = g.shape(inputs[0])[2:]
        parts = self.parts
        maps = g.op("Squeeze", inputs[0], const(0))
        inner = part((0, 1, 1), (parts, height - 1, width - 1))
        found = g.op("Greater", inner, g.const(self.threshold))
        for i in range(3):
            for k in range(3):
                if (i, k) != (1, 1):
                    beside = part((0, i, k), (parts, i + height - 2, k + width - 2))
                    found = g.op("And", found, g.op("Greater", inner, beside))
        counts = g.op("Cast", g.op("Reshape", found, const(parts, -1)), to=7)
        rank = g.op("CumSum", counts, g.const(1, np.int64))
        few = g.op("LessOrEqual", rank, g.const(self.most, np.int64))
        kept = g.op("And", found, g.op("Reshape", few, const(parts, height - 2, width - 2)))
        places = g.op("NonZero", kept)
        index, row, column = g.op("Split", places, const(1, 1, 1), axis=0, outputs=3)
        row, column = (g.op("Add", value, const(1)) for value in (row, column))

        # All from here on has a row for each peak.
        index, row, column = (g.op("Reshape", v, const(-1, 1)) for v in (index, row, column))
        steps = np.indices((7, 7)).reshape(2, 1, 49) - 3
        rows = g.op("Add", row, g.const(steps[0], np.int64))
        columns = g.op("Add", column, g.const(steps[1], np.int64))
        start = g.op("Mul", index, const(height * width))
        at = g.op("Add", g.op("Add", g.op("Mul", rows, const(width)), columns), start)
        last = g.const(int(np.prod(g.shape(inputs[0]))) - 1, np.int64)
        at = g.op("Min", g.op("Max", at, g.const(0, np.int64)), last)
        flat = g.op("Reshape", inputs[0], const(-1))
        score = g.op("Gather", flat, at)
        within = g.op("Greater", score, g.const(0))
        for axis in (rows, columns):
            within = g.op("And", within, g.op("Greater", axis, const(0)))
            within = g.op("And", within, g.op("Less", axis, const(width)))
        score = g.op("Where", within, score, g.const(0))
        total = g.op("ReduceSum", score, const(1))
        means = [
            g.op("Div", g.op("ReduceSum", g.op("Mul", score, to_float(g, axis)), const(1)), total)
            for axis in (columns, rows)
        ]
        centre = g.op("Add", g.op("Add", g.op("Mul", row, const(width)), column), start)
        peaks = g.op("Concat", *means, g.op("Gather", flat, centre), axis=1)

        place = g.op("Concat", index, self._inner(g, row, column, width), axis=1)
        order = g.op("Reshape", g.op("GatherND", rank, place), const(-1, 1))
        target = g.op("Concat", index, order, axis=1)
        number = to_float(g, g.op("ReduceSum", counts, const(1)))
        number = g.op("Reshape", number, const(parts, 1, 1))
        empty = g.op("Pad", number, const(0, 0, 0, 0, self.most, 2))
        return [g.op("Unsqueeze", g.op("ScatterND", empty, target, peaks), const(0))]

    @staticmethod
    def _inner(g: OnnxBuilder, row: str, column: str, width: int) -> str:
        """Where the pixel at ``row`` and ``column`` is among those that are not at the border."""
        one, side = g.const([1], np.int64), g.const([width - 2], np.int64)
        return str(g.op("Add", g.op("Mul", g.op("Sub", row, one), side), g.op("Sub", column, one)))
