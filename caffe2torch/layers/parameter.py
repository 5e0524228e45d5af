"""Parameter: a learned blob as a top."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import field
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    BlobSpec,
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    constant_filler,
    register_layer,
)


@register_layer()
class Parameter(Layer):
    """The learned blob of ``shape`` itself, 0 before training (Caffe: parameter_layer.hpp).

    The top is the blob's memory: a layer that changes it in place changes the blob, and the
    next pass begins with what this one left. happynear's fork has a ``blob_filler`` for it.
    """

    type = "Parameter"
    bottoms = (0, 0)
    keeps_tops = True
    parameters = Parameters("parameter_param", "optional FillerParameter blob_filler = 2;")

    shape: Shape
    filler: Message = field(repr=False)
    filler_given: bool = field(repr=False)

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        own = cls.parameters.of(proto)
        given = own.HasField("blob_filler")
        filler = own.blob_filler if given else constant_filler(0)
        return cls(proto.name, tuple(proto.parameter_param.shape.dim), filler, given)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        return [self.shape]

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        return [BlobSpec("weight", self.shape, self.filler, given=self.filler_given)]

    def overwritten_gradients(self, bottoms: Sequence[Shape]) -> Collection[str]:
        return {"weight"}  # It is the top's gradient, in the same memory.

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        return t.runtime.LearnedBlob(self.shape)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [g.op("Identity", g.params["weight"])]
