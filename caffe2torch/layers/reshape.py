"""Reshape: the same numbers under other axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import register_layer
from caffe2torch.layers._base import Layer, OnnxBuilder, SourceBuilder, net_error
from caffe2torch.layers._in_place import refuse_in_place
from caffe2torch.layers._onnx import reshape_axes
from caffe2torch.layers._python import literal

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self


@register_layer()
@dataclass(frozen=True)
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
    def from_proto(cls, proto: Message) -> Self:
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

    def forward(
        self, inputs: Sequence[Tensor], params: Mapping[str, Tensor], training: bool
    ) -> Tensor:
        return inputs[0].reshape(self._target(tuple(inputs[0].shape)))

    def to_onnx(
        self, g: OnnxBuilder, inputs: Sequence[str], params: Mapping[str, str]
    ) -> Sequence[str]:
        start, stop = self._range(len(g.shape(inputs[0])))
        return [reshape_axes(g, inputs[0], [0] * start + list(self.shape), stop)]

    def to_source(
        self, s: SourceBuilder, inputs: Sequence[str], bottoms: Sequence[Shape]
    ) -> str | Sequence[str]:
        start, stop = self._range(len(bottoms[0]))
        target = [*[0] * start, *self.shape, *[0] * (len(bottoms[0]) - stop)]
        behind = len(target) - len(bottoms[0])
        sizes = [
            f"{inputs[0]}.shape[{axis if axis < start + len(self.shape) else axis - behind}]"
            if size == 0
            else literal(size)
            for axis, size in enumerate(target)
        ]
        return f"{inputs[0]}.reshape({', '.join(sizes) or '()'})"
