"""Slice: parts of the bottom along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    TorchBuilder,
    axis_or_legacy_dim,
    canonical_axis,
    net_error,
    register_layer,
)

END = np.iinfo(np.int64).max


@register_layer()
class Slice(Layer):
    """The bottom cut along ``axis``, default 1, into one part a top (Caffe: slice_layer.cpp).

    ``slice_point`` lists where the second and later parts begin; without it the parts are
    equal and the axis must be divisible by their number. ``slice_dim`` is the old name of
    ``axis``: it cannot be negative, nor given with ``axis``. A single top is the bottom
    itself, its memory shared. Errors: a wrong count of points, points that do not increase
    or that lie beyond the axis, more tops than the axis has entries.
    """

    type = "Slice"
    tops = (1, None)

    axis: int
    field: str
    slice_point: tuple[int, ...]
    num_tops: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        axis, field = axis_or_legacy_dim(proto, "slice_param", "slice_dim")
        points, num_tops = tuple(proto.slice_param.slice_point), len(proto.top)
        if points and len(points) != num_tops - 1:
            raise net_error(
                proto,
                f"{len(points)} slice points for {num_tops} tops; there must be one fewer",
                "slice_param.slice_point",
            )
        if any(a >= b for a, b in pairwise((0, *points))):
            raise net_error(
                proto,
                f"{list(points)} do not increase from above 0",
                "slice_param.slice_point",
            )
        return cls(name=proto.name, axis=axis, field=field, slice_point=points, num_tops=num_tops)

    @property
    def shares_memory(self) -> bool:
        return self.num_tops == 1

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        shape = bottoms[0]
        axis = canonical_axis(self, self.axis, len(shape), self.field)
        sizes = self._sizes(shape[axis])
        return [(*shape[:axis], size, *shape[axis + 1 :]) for size in sizes]

    def _sizes(self, total: int) -> list[int]:
        if self.slice_point:
            if total < max(self.num_tops, self.slice_point[-1]):
                raise self.net_error(
                    f"{list(self.slice_point)} do not cut an axis of {total} entries into "
                    f"{self.num_tops} parts",
                    "slice_param.slice_point",
                )
            return [b - a for a, b in pairwise((0, *self.slice_point, total))]
        if total % self.num_tops:
            raise self.net_error(
                f"axis {self.axis} has {total} entries, which {self.num_tops} tops cannot share "
                "equally; give slice_point"
            )
        return [total // self.num_tops] * self.num_tops

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        (x,) = inputs
        t.check(self, inputs)
        if self.num_tops == 1:
            return x
        if not self.slice_point:
            return t.torch.chunk(x, self.num_tops, dim=self.axis)
        return t.torch.tensor_split(x, self.slice_point, dim=self.axis)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        if self.num_tops == 1:
            return [g.op("Identity", inputs[0])]
        if not self.slice_point:
            return list(g.op("Split", inputs[0], outputs=self.num_tops, axis=self.axis))
        axis = g.const([self.axis], np.int64)
        bounds = [g.const([point], np.int64) for point in (0, *self.slice_point, END)]
        return [g.op("Slice", inputs[0], start, end, axis) for start, end in pairwise(bounds)]
