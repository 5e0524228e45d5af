"""Embed: a learned vector for each index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import register_layer
from caffe2torch.layers._base import BlobSpec, Layer, OnnxBuilder, SourceBuilder, net_error
from caffe2torch.layers._onnx import to_int
from caffe2torch.layers._python import call

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self


@register_layer()
@dataclass(frozen=True)
class Embed(Layer):
    """y[.., n] = weight[x[..], n] + bias[n] (Caffe: embed_layer.cpp).

    Bottom of any shape, whole numbers from 0 to ``input_dim`` - 1; top (*bottom, num_output).
    Weight (input_dim, num_output); bias (num_output), unless ``bias_term`` is false.
    """

    type = "Embed"
    index_bottoms = frozenset({0})

    num_output: int
    input_dim: int
    bias_term: bool
    weight_filler: Message = field(repr=False)
    bias_filler: Message = field(repr=False)
    weight_filler_given: bool = field(repr=False)

    @classmethod
    def from_proto(cls, proto: Message) -> Self:
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

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        weight = BlobSpec(
            "weight",
            (self.input_dim, self.num_output),
            self.weight_filler,
            self.weight_filler_given,
        )
        bias = BlobSpec("bias", (self.num_output,), self.bias_filler, given=True)
        return (weight, bias) if self.bias_term else (weight,)

    def forward(
        self, inputs: Sequence[Tensor], params: Mapping[str, Tensor], training: bool
    ) -> Tensor:
        from torch.nn import functional

        y = functional.embedding(inputs[0].long(), params["weight"])
        return y + params["bias"] if self.bias_term else y

    def to_onnx(
        self, g: OnnxBuilder, inputs: Sequence[str], params: Mapping[str, str]
    ) -> Sequence[str]:
        y = g.op("Gather", params["weight"], to_int(g, inputs[0]), axis=0)
        return [g.op("Add", y, params["bias"]) if self.bias_term else y]

    def to_source(
        self, s: SourceBuilder, inputs: Sequence[str], bottoms: Sequence[Shape]
    ) -> str | Sequence[str]:
        weight = f"{s.arrays()}.weight"
        y = call("F.embedding", f"{inputs[0]}.long()", weight)
        return f"{y} + {weight.removesuffix('weight')}bias" if self.bias_term else y
