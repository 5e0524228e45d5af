"""ArgMax: where the largest values are, or the values."""

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
    TorchBuilder,
    canonical_axis,
    net_error,
    register_layer,
)
from caffe2torch.layers._onnx import to_float

MOST_ROUNDS = 8
"""Largest values that are found one by one, in five nodes each; more of them are sorted."""


@register_layer()
class ArgMax(Layer):
    """The ``top_k`` largest entries, largest first (Caffe: argmax_layer.cpp).

    Of equal values the one with the larger index comes first. Indices are float32.

    With ``axis``: the top is the bottom with ``top_k`` entries on that axis, which are
    indices, or with ``out_max_val`` values only. Without: each item of a bottom (N, ..) is
    one vector, and the top is (N, 1, top_k), or (N, 2, top_k) of indices and values with
    ``out_max_val``, with axes of size 1 added up to the bottom's number of axes. Defaults:
    top_k 1, out_max_val false. ``top_k`` above the number of entries is an error.
    """

    type = "ArgMax"
    barred_bottoms = frozenset({0})

    axis: int | None
    top_k: int
    out_max_val: bool

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = proto.argmax_param
        if param.top_k < 1:
            raise net_error(proto, "must be at least 1", "argmax_param.top_k")
        axis = param.axis if param.HasField("axis") else None
        return cls(name=proto.name, axis=axis, top_k=param.top_k, out_max_val=param.out_max_val)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        shape = bottoms[0]
        if self.axis is not None:
            axis = canonical_axis(self, self.axis, len(shape), "argmax_param.axis")
            self._check_top_k(shape[axis])
            return [(*shape[:axis], self.top_k, *shape[axis + 1 :])]
        if not shape:
            raise self.net_error("the bottom has no axes")
        self._check_top_k(prod(shape[1:]))
        rows = 2 if self.out_max_val else 1
        return [(shape[0], rows, self.top_k) + (1,) * (len(shape) - 3)]

    def _check_top_k(self, entries: int) -> None:
        if self.top_k > entries:
            raise self.net_error(
                f"{self.top_k} is more than the {entries} entries there are", "argmax_param.top_k"
            )

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        options = {"top_k": self.top_k, "out_max_val": self.out_max_val}
        return t.runtime.arg_max(inputs[0], dim=self.axis, **options)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        x, axes = inputs[0], len(g.shape(inputs[0]))
        if self.axis is not None:
            values, indices = self._largest_onnx(g, x, self.axis % axes, axes)
            return [values if self.out_max_val else indices]
        item = g.op("Reshape", x, g.const([0, 1, -1], np.int64))
        values, indices = self._largest_onnx(g, item, 2, 3)
        y = g.op("Concat", indices, values, axis=1) if self.out_max_val else indices
        extra = range(3, axes)
        return [g.op("Unsqueeze", y, g.const(list(extra), np.int64)) if extra else y]

    def _largest_onnx(self, g: OnnxBuilder, x: str, axis: int, axes: int) -> tuple[str, str]:
        """``largest`` in ONNX, without the choice between equals that readers make differently."""
        if self.top_k > MOST_ROUNDS or self.non_finite:
            return self._sorted_onnx(g, x, axis)
        shape = [-1 if a == axis else 1 for a in range(axes)]
        size = g.op("Squeeze", g.op("Shape", x, start=axis, end=axis + 1))
        index = g.op("Range", g.const(0, np.int64), size, g.const(1, np.int64))
        index = g.op("Reshape", to_float(g, index), g.const(shape, np.int64))
        none, lowest = g.const(-1.0), g.const(-np.inf)
        values, indices = [], []
        for taken in range(self.top_k):
            values.append(g.op("ReduceMax", x, axes=[axis]))
            best = g.op("Where", g.op("Equal", x, values[-1]), index, none)
            indices.append(g.op("ReduceMax", best, axes=[axis]))
            if taken + 1 < self.top_k:
                x = g.op("Where", g.op("Equal", index, indices[-1]), lowest, x)
        if self.top_k == 1:
            return values[0], indices[0]
        return g.op("Concat", *values, axis=axis), g.op("Concat", *indices, axis=axis)

    def _sorted_onnx(self, g: OnnxBuilder, x: str, axis: int) -> tuple[str, str]:
        """``largest`` by TopK, which puts the lower index of equals first."""
        start, end, step = (g.const([i], np.int64) for i in (-1, np.iinfo(np.int64).min, -1))
        backwards = g.op("Slice", x, start, end, g.const([axis], np.int64), step)
        k = g.const([self.top_k], np.int64)
        values, places = g.op("TopK", backwards, k, outputs=2, axis=axis)
        size = g.op("Shape", x, start=axis, end=axis + 1)
        last = g.op("Sub", size, g.const([1], np.int64))
        return values, to_float(g, g.op("Sub", last, places))
