"""Flatten: a range of axes becomes one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import register_layer
from caffe2torch.layers._base import Layer, OnnxBuilder, SourceBuilder, canonical_axis
from caffe2torch.layers._in_place import refuse_in_place
from caffe2torch.layers._onnx import reshape_axes
from caffe2torch.layers._python import call

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self


@register_layer()
@dataclass(frozen=True)
class Flatten(Layer):
    """Axes ``axis`` (default 1) to ``end_axis`` (default -1) in one (Caffe: flatten_layer.cpp).

    (a, b, c, d) with axis 1 and end_axis 2 makes (a, b * c, d). An ``end_axis`` just before
    ``axis`` is an empty range and inserts an axis of size 1; one further before is an error.
    """

    type = "Flatten"
    shares_memory = True

    axis: int
    end_axis: int

    @classmethod
    def from_proto(cls, proto: Message) -> Self:
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

    def forward(
        self, inputs: Sequence[Tensor], params: Mapping[str, Tensor], training: bool
    ) -> Tensor:
        start, stop = self._range(inputs[0].ndim)
        if start == stop:
            return inputs[0].unsqueeze(start)
        return inputs[0].flatten(start, stop - 1)

    def to_onnx(
        self, g: OnnxBuilder, inputs: Sequence[str], params: Mapping[str, str]
    ) -> Sequence[str]:
        start, stop = self._range(len(g.shape(inputs[0])))
        head = [0] * start + [1 if start == stop else -1]
        return [reshape_axes(g, inputs[0], head, stop)]

    def to_source(
        self, s: SourceBuilder, inputs: Sequence[str], bottoms: Sequence[Shape]
    ) -> str | Sequence[str]:
        start, stop = self._range(len(bottoms[0]))
        if start == stop:
            return call("torch.unsqueeze", inputs[0], start)
        end = [stop - 1] * (stop != len(bottoms[0]))
        return call("torch.flatten", inputs[0], start, *end)
