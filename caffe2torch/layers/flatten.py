"""Flatten: a range of axes becomes one."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    GradientSharing,
    Layer,
    OnnxBuilder,
    TorchBuilder,
    canonical_axis,
    refuse_in_place,
    register_layer,
)
from caffe2torch.layers._onnx import reshape_axes


@register_layer()
class Flatten(Layer):
    """Axes ``axis`` (default 1) to ``end_axis`` (default -1) in one (Caffe: flatten_layer.cpp).

    (a, b, c, d) with axis 1 and end_axis 2 makes (a, b * c, d). An ``end_axis`` just before
    ``axis`` is an empty range and inserts an axis of size 1; one further before is an error.
    """

    type = "Flatten"
    shares_memory = True
    gradient_sharing = GradientSharing.BACKWARD

    axis: int
    end_axis: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        refuse_in_place(proto)
        param = proto.flatten_param
        return cls(name=proto.name, axis=param.axis, end_axis=param.end_axis)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        shape = bottoms[0]
        start, stop = self._range(len(shape))
        return [(*shape[:start], prod(shape[start:stop]), *shape[stop:])]

    def _range(self, num_axes: int) -> tuple[int, int]:
        start = canonical_axis(self, self.axis, num_axes, "flatten_param.axis")
        end = canonical_axis(self, self.end_axis, num_axes, "flatten_param.end_axis")
        if end + 1 < start:
            raise self.net_error(
                f"end_axis {self.end_axis} is before axis {self.axis} in a blob of {num_axes} axes",
                "flatten_param.end_axis",
            )
        return start, end + 1

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        num_axes = len(bottoms[0])
        start, stop = self._range(num_axes)
        if start == stop:
            return t.torch.unsqueeze(inputs[0], start)
        end = [stop - 1] * (stop != num_axes)
        return t.torch.flatten(inputs[0], start, *end)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        start, stop = self._range(len(g.shape(inputs[0])))
        head = [0] * start + [1 if start == stop else -1]
        return [reshape_axes(g, inputs[0], head, stop)]
