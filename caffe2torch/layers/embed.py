"""Embed: a learned vector for each index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import BlobSpec, Layer, OnnxBuilder, TorchBuilder, net_error, register_layer
from caffe2torch.layers._onnx import to_int


@register_layer()
class Embed(Layer):
    """y[.., n] = weight[x[..], n] + bias[n] (Caffe: embed_layer.cpp).

    Bottom of any shape, whole numbers from 0 to ``input_dim`` - 1; top (*bottom, num_output).
    Weight (input_dim, num_output); bias (num_output), unless ``bias_term`` is false.
    """

    type = "Embed"
    barred_bottoms = frozenset({0})
    index_bottoms = frozenset({0})

    num_output: int
    input_dim: int
    bias_term: bool
    weight_filler: Message = field(repr=False)
    bias_filler: Message = field(repr=False)
    weight_filler_given: bool = field(repr=False)

    @property
    def works_in_place(self) -> bool:
        return self.num_output == 1

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = proto.embed_param
        for name in ("num_output", "input_dim"):
            if not getattr(param, name):
                raise net_error(proto, "must be positive", f"embed_param.{name}")
        return cls(
            name=proto.name,
            num_output=param.num_output,
            input_dim=param.input_dim,
            bias_term=param.bias_term,
            weight_filler=param.weight_filler,
            bias_filler=param.bias_filler,
            weight_filler_given=param.HasField("weight_filler"),
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        return [(*bottoms[0], self.num_output)]

    def index_count(self, bottoms: Sequence[Shape]) -> int:
        return self.input_dim

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        weight = BlobSpec(
            "weight",
            (self.input_dim, self.num_output),
            self.weight_filler,
            self.weight_filler_given,
        )
        bias = BlobSpec("bias", (self.num_output,), self.bias_filler, given=True)
        return (weight, bias) if self.bias_term else (weight,)

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        y = t.F.embedding(inputs[0].long(), t.params.weight)
        return y + t.params.bias if self.bias_term else y

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        y = g.op("Gather", g.params["weight"], to_int(g, inputs[0]), axis=0)
        return [g.op("Add", y, g.params["bias"]) if self.bias_term else y]
