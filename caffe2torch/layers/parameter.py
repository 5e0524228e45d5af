"""Parameter: a learned blob as a top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    BlobSpec,
    Layer,
    OnnxBuilder,
    TorchBuilder,
    constant_filler,
    register_layer,
)


@register_layer()
class Parameter(Layer):
    """The learned blob of ``shape`` itself, 0 before training (Caffe: parameter_layer.hpp).

    The top is the blob's memory: a layer that changes it in place changes the blob, and the
    next pass begins with what this one left.
    """

    type = "Parameter"
    bottoms = (0, 0)
    keeps_tops = True

    shape: Shape

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        return cls(name=proto.name, shape=tuple(proto.parameter_param.shape.dim))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        return [self.shape]

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        return [BlobSpec("weight", self.shape, constant_filler(0), given=False)]

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return t.runtime.LearnedBlob(self.shape)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [g.op("Identity", g.params["weight"])]
