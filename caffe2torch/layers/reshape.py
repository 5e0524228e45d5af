"""Reshape: the same numbers under other axes."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    TorchBuilder,
    net_error,
    refuse_in_place,
    register_layer,
)
from caffe2torch.layers._onnx import reshape_axes


@register_layer()
class Reshape(Layer):
    """``num_axes`` axes from ``axis`` on become ``shape``, others stay (Caffe: reshape_layer.cpp).

    In ``shape``, 0 copies the bottom's axis at the same place of the result and a single -1
    takes what is left. A negative ``axis`` counts from behind the last axis, so -1 appends
    axes. Defaults: axis 0, num_axes -1, which is all axes from ``axis`` on.
    Errors: two -1, a range or a 0 beyond the bottom's axes, a count that does not fit.
    """

    type = "Reshape"
    shares_memory = True

    shape: Shape
    axis: int
    num_axes: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        refuse_in_place(proto)
        param = proto.reshape_param
        shape = tuple(param.shape.dim)
        if shape.count(-1) > 1 or any(dim < -1 for dim in shape):
            raise net_error(
                proto,
                f"{list(shape)} may hold positive sizes, 0 and a single -1",
                "reshape_param.shape",
            )
        if param.num_axes < -1:
            raise net_error(
                proto,
                f"{param.num_axes} is neither a number of axes nor -1 for all",
                "reshape_param.num_axes",
            )
        return cls(name=proto.name, shape=shape, axis=param.axis, num_axes=param.num_axes)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        return [self._target(bottoms[0])]

    def _target(self, bottom: Shape) -> Shape:
        start, stop = self._range(len(bottom))
        target = [*bottom[:start], *self.shape, *bottom[stop:]]
        for i, dim in enumerate(self.shape, start):
            if dim == 0:
                target[i] = self._copied(bottom, i)
        if -1 in self.shape:
            target[start + self.shape.index(-1)] = 1
            known = prod(target)
            if not known or prod(bottom) % known:
                raise self._misfit(bottom)
            target[start + self.shape.index(-1)] = prod(bottom) // known
        elif prod(target) != prod(bottom):
            raise self._misfit(bottom)
        return tuple(target)

    def _range(self, num_axes: int) -> tuple[int, int]:
        start = self.axis if self.axis >= 0 else num_axes + self.axis + 1
        stop = num_axes if self.num_axes == -1 else start + self.num_axes
        if not 0 <= start <= stop <= num_axes:
            raise self.net_error(
                f"axis {self.axis} with num_axes {self.num_axes} is out of range for a blob of "
                f"{num_axes} axes",
                "reshape_param.axis",
            )
        return start, stop

    def _copied(self, bottom: Shape, axis: int) -> int:
        if axis >= len(bottom):
            raise self.net_error(
                f"a 0 copies axis {axis}, but the bottom has {len(bottom)} axes only",
                "reshape_param.shape",
            )
        return bottom[axis]

    def _misfit(self, bottom: Shape) -> Exception:
        return self.net_error(
            f"a bottom of shape {bottom} with {prod(bottom)} numbers does not fit "
            f"{list(self.shape)} at axis {self.axis}",
            "reshape_param.shape",
        )

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        t.check(self, inputs)
        (x,), (bottom,) = inputs, bottoms
        start, stop = self._range(len(bottom))
        target = [*[0] * start, *self.shape, *[0] * (len(bottom) - stop)]
        behind, end = len(target) - len(bottom), start + len(self.shape)
        sizes = [
            size if size else x.shape[axis if axis < end else axis - behind]
            for axis, size in enumerate(target)
        ]
        return x.reshape(*sizes or [()])

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        start, stop = self._range(len(g.shape(inputs[0])))
        return [reshape_axes(g, inputs[0], [0] * start + list(self.shape), stop)]
