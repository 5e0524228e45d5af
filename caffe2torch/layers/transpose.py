"""Transpose: the axes in another order, all of them named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    refuse_in_place,
    register_layer,
)


@register_layer()
class Transpose(Layer):
    """Top axis i is bottom axis ``dim[i]`` (caffe_ocr, CTPN: transpose_layer.cpp).

    For a bottom (N, C, H, W) the dims 3, 2, 0, 1 make (W, H, N, C). Every axis is named once.
    Errors: an axis named twice or not at all, a top with the bottom's name.
    """

    type = "Transpose"
    parameters = Parameters("transpose_param", "repeated int32 dim = 1;")

    order: tuple[int, ...]

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        refuse_in_place(proto)
        order = tuple(cls.parameters.of(proto).dim)
        if sorted(order) != list(range(len(order))):
            raise net_error(
                proto,
                f"{list(order)} must name each axis from 0 to {len(order) - 1} once",
                "transpose_param.dim",
            )
        return cls(name=proto.name, order=order)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (shape,) = bottoms
        if len(shape) != len(self.order):
            raise self.net_error(
                f"{len(self.order)} axes are named, but the bottom's shape is {shape}",
                "transpose_param.dim",
            )
        return [tuple(shape[axis] for axis in self.order)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return inputs[0].permute(*self.order)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [g.op("Transpose", inputs[0], perm=list(self.order))]
