"""Permute: the axes in another order (SSD)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    GradientSharing,
    Layer,
    OnnxBuilder,
    TorchBuilder,
    net_error,
    register_layer,
)


@register_layer()
class Permute(Layer):
    """Top axis i is bottom axis ``order[i]`` (SSD: permute_layer.cpp).

    Axes that ``order`` does not name follow in their own order: for a bottom (a, b, c, d),
    order 2 makes (c, a, b, d). The identity shares the bottom's memory. Errors: an axis
    named twice, or one that the bottom does not have.
    """

    type = "Permute"
    gradient_sharing = GradientSharing.BACKWARD

    order: tuple[int, ...]

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        order = tuple(proto.permute_param.order)
        if len(set(order)) != len(order):
            raise net_error(
                proto, f"{list(order)} names an axis more than once", "permute_param.order"
            )
        return cls(name=proto.name, order=order)

    @property
    def shares_memory(self) -> bool:
        return self.order == tuple(range(len(self.order)))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        shape = bottoms[0]
        for axis in self.order:
            if axis >= len(shape):
                raise self.net_error(
                    f"axis {axis} is out of range for a blob of {len(shape)} axes",
                    "permute_param.order",
                )
        return [tuple(shape[axis] for axis in self.complete_order(len(shape)))]

    def complete_order(self, num_axes: int) -> list[int]:
        """``order`` with the axes that it does not name."""
        return [*self.order, *(axis for axis in range(num_axes) if axis not in self.order)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        y = inputs[0].permute(*self.complete_order(len(bottoms[0])))
        # Moved axes look like channels-last, which torch's convolutions get wrong for one channel.
        return y.clone(memory_format=t.torch.contiguous_format)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        order = self.complete_order(len(g.shape(inputs[0])))
        return [g.op("Transpose", inputs[0], perm=order)]
