"""Scale: multiply by an array broadcast over some axes, then add another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import register_layer
from caffe2torch.layers._base import Affine, BlobSpec, OnnxBuilder, SourceBuilder, constant_filler
from caffe2torch.layers._broadcast import Broadcast
from caffe2torch.layers._python import call, trailing

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self


@register_layer()
@dataclass(frozen=True)
class Scale(Broadcast):
    """y = x * scale + bias over the axes from ``axis`` (default 1) on (Caffe: scale_layer.cpp).

    ``scale`` is the second bottom, or a learned weight over ``num_axes`` (default 1) axes,
    filled with 1 by default. ``bias_term`` (default false) adds a learned bias of the same
    shape, filled with 0 by default.
    """

    type = "Scale"

    bias_term: bool
    filler: Message = field(repr=False)
    bias_filler: Message = field(repr=False)

    @classmethod
    def from_proto(cls, proto: Message) -> Self:
        param = proto.scale_param
        return cls(
            name=proto.name,
            axis=param.axis,
            num_axes=param.num_axes,
            learned=len(proto.bottom) == 1,
            bias_term=param.bias_term,
            filler=param.filler if param.HasField("filler") else constant_filler(1),
            bias_filler=param.bias_filler,
        )

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        shape = self.operand_shape(bottoms)
        weight = BlobSpec("weight", shape, self.filler, given=True)
        bias = BlobSpec("bias", shape, self.bias_filler, given=True)
        return [weight] * self.learned + [bias] * self.bias_term

    def forward(
        self, inputs: Sequence[Tensor], params: Mapping[str, Tensor], training: bool
    ) -> Tensor:
        x = inputs[0]
        y = x * self.align(params["weight"] if self.learned else inputs[1], x)
        return y + self.align(params["bias"], x) if self.bias_term else y

    def affine(self, params: Mapping[str, FloatArray], channels: int) -> Affine | None:
        if not self.is_by_channel(params, "weight", channels):
            return None
        shift = params["bias"] if self.bias_term else np.zeros(channels)
        return Affine(params["weight"].astype(np.float64), shift.astype(np.float64))

    def to_onnx(
        self, g: OnnxBuilder, inputs: Sequence[str], params: Mapping[str, str]
    ) -> Sequence[str]:
        x = inputs[0]
        shape = self.operand_shape([g.shape(name) for name in inputs])
        weight = params["weight"] if self.learned else inputs[1]
        y = g.op("Mul", x, self.align_onnx(g, weight, shape, x))
        if self.bias_term:
            y = g.op("Add", y, self.align_onnx(g, params["bias"], shape, x))
        return [y]

    def to_source(
        self, s: SourceBuilder, inputs: Sequence[str], bottoms: Sequence[Shape]
    ) -> str | Sequence[str]:
        x, shape = inputs[0], self.operand_shape(bottoms)
        start = [self._start(bottoms[0])] * (self._start(bottoms[0]) != 1)
        if self.learned:
            options = {"bias": True} if self.bias_term else {}
            return f"{s.module(call(s.use('Scale'), shape, *start, **options))}({x})"
        y = f"{x} * {trailing(inputs[1], self._trailing(bottoms[0], shape))}"
        return f"{s.module(call(s.use('Bias'), shape, *start))}({y})" if self.bias_term else y
