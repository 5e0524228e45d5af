"""AbsVal: y = |x|."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import register_layer
from caffe2torch.layers._base import Layer, OnnxBuilder, SourceBuilder
from caffe2torch.layers._in_place import refuse_in_place
from caffe2torch.layers._python import call

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self


@register_layer()
@dataclass(frozen=True)
class AbsVal(Layer):
    """y = |x| on any shape, never in place (Caffe: absval_layer.cpp)."""

    type = "AbsVal"

    @classmethod
    def from_proto(cls, proto: Message) -> Self:
        refuse_in_place(proto)
        return super().from_proto(proto)

    def forward(
        self, inputs: Sequence[Tensor], params: Mapping[str, Tensor], training: bool
    ) -> Tensor:
        return inputs[0].abs()

    def to_onnx(
        self, g: OnnxBuilder, inputs: Sequence[str], params: Mapping[str, str]
    ) -> Sequence[str]:
        return [g.op("Abs", inputs[0])]

    def to_source(
        self, s: SourceBuilder, inputs: Sequence[str], bottoms: Sequence[Shape]
    ) -> str | Sequence[str]:
        return call("torch.abs", inputs[0])
