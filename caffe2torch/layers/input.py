"""Input: blobs that the caller feeds."""

from __future__ import annotations

from collections.abc import Sequence

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import register_layer
from caffe2torch.layers._base import Layer, Role, net_error


@register_layer()
class Input(Layer):
    """Declares the net's inputs and computes nothing (Caffe: input_layer.cpp).

    ``shape`` is given once for all tops, or once for each. Caffe also allows no shape and
    leaves it to the program that feeds the net: it has to be given then. A transform_param,
    which the program that feeds the net may follow, is kept as its preprocessing record.
    """

    type = "Input"
    role = Role.INPUT
    bottoms = (0, 0)
    tops = (1, None)

    shapes: tuple[Shape, ...]

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        shapes = tuple(tuple(shape.dim) for shape in proto.input_param.shape)
        if len(shapes) not in (0, 1, len(proto.top)):
            raise net_error(
                proto,
                f"{len(shapes)} shapes for {len(proto.top)} tops; give one for all or one for each",
                "input_param.shape",
            )
        if any(size < 0 for shape in shapes for size in shape):
            raise net_error(proto, f"negative size in {shapes}", "input_param.shape")
        if len(shapes) == 1:
            shapes *= len(proto.top)
        return cls(name=proto.name, shapes=shapes)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        return self.shapes
