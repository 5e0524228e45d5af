"""What the layers of oriented responses share (MhLiao/RRD)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, Parameters, net_error
from caffe2torch.layers._spatial import require_axes


@dataclass(frozen=True)
class Orientations(Layer):
    """Base of Extend and ORPooling: ``orientations`` channels side by side are one."""

    parameters = Parameters("orn_param", "optional uint32 orientations = 1;")

    orientations: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        count = cls.parameters.of(proto).orientations
        if count < 2:
            raise net_error(proto, f"{count} is not greater than 1", "orn_param.orientations")
        return cls(name=proto.name, orientations=count)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        require_axes(self, bottoms[0])
        return [bottoms[0]]
