"""Concat: the bottoms one after another along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    NOTHING,
    Layer,
    OnnxBuilder,
    TorchBuilder,
    axis_or_legacy_dim,
    canonical_axis,
    register_layer,
)


@register_layer()
class Concat(Layer):
    """Concatenation along ``axis``, default 1 (Caffe: concat_layer.cpp).

    Bottoms (.., a, ..), (.., b, ..) make (.., a + b, ..); all other sizes must be equal.
    ``concat_dim`` is the old name of ``axis``: it cannot be negative, nor given with ``axis``.
    One bottom alone is passed on, its memory shared.
    """

    type = "Concat"
    reads = NOTHING
    shares_pixels = True
    bottoms = (1, None)

    axis: int
    field: str
    num_bottoms: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        axis, field = axis_or_legacy_dim(proto, "concat_param", "concat_dim")
        return cls(name=proto.name, axis=axis, field=field, num_bottoms=len(proto.bottom))

    @property
    def shares_memory(self) -> bool:
        return self.num_bottoms == 1

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        first = bottoms[0]
        axis = canonical_axis(self, self.axis, len(first), self.field)
        for shape in bottoms[1:]:
            if len(shape) != len(first) or any(
                a != b for i, (a, b) in enumerate(zip(first, shape, strict=True)) if i != axis
            ):
                raise self.net_error(
                    f"bottoms of shapes {first} and {shape} differ elsewhere than on axis {axis}"
                )
        total = sum(shape[axis] for shape in bottoms)
        return [(*first[:axis], total, *first[axis + 1 :])]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        if len(inputs) == 1:
            return inputs[0]
        return t.torch.cat(tuple(inputs), dim=self.axis)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [g.op("Concat", *inputs, axis=self.axis)]
