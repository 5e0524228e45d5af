"""Bias: add an array broadcast over some axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import register_layer
from caffe2torch.layers._base import Affine, BlobSpec, OnnxBuilder, SourceBuilder
from caffe2torch.layers._broadcast import Broadcast
from caffe2torch.layers._python import call, trailing

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self


@register_layer()
@dataclass(frozen=True)
class Bias(Broadcast):
    """y = x + bias over the axes from ``axis`` (default 1) on (Caffe: bias_layer.cpp).

    ``bias`` is the second bottom, or learned over ``num_axes`` (default 1) axes and filled
    with 0 by default.
    """

    type = "Bias"

    filler: Message = field(repr=False)

    @classmethod
    def from_proto(cls, proto: Message) -> Self:
        param = proto.bias_param
        return cls(
            name=proto.name,
            axis=param.axis,
            num_axes=param.num_axes,
            learned=len(proto.bottom) == 1,
            filler=param.filler,
        )

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        bias = BlobSpec("bias", self.operand_shape(bottoms), self.filler, given=True)
        return [bias] * self.learned

    def forward(
        self, inputs: Sequence[Tensor], params: Mapping[str, Tensor], training: bool
    ) -> Tensor:
        x = inputs[0]
        return x + self.align(params["bias"] if self.learned else inputs[1], x)

    def affine(self, params: Mapping[str, FloatArray], channels: int) -> Affine | None:
        if not self.is_by_channel(params, "bias", channels):
            return None
        return Affine(np.ones(channels), params["bias"].astype(np.float64))

    def to_onnx(
        self, g: OnnxBuilder, inputs: Sequence[str], params: Mapping[str, str]
    ) -> Sequence[str]:
        shape = self.operand_shape([g.shape(name) for name in inputs])
        bias = params["bias"] if self.learned else inputs[1]
        return [g.op("Add", inputs[0], self.align_onnx(g, bias, shape, inputs[0]))]

    def to_source(
        self, s: SourceBuilder, inputs: Sequence[str], bottoms: Sequence[Shape]
    ) -> str | Sequence[str]:
        x, shape = inputs[0], self.operand_shape(bottoms)
        if self.learned:
            start = [self._start(bottoms[0])] * (self._start(bottoms[0]) != 1)
            return f"{s.module(call(s.use('Bias'), shape, *start))}({x})"
        return f"{x} + {trailing(inputs[1], self._trailing(bottoms[0], shape))}"
