"""Bias: add an array broadcast over some axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np

from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    NOTHING,
    Affine,
    BlobSpec,
    Layer,
    OnnxBuilder,
    TorchBuilder,
    register_layer,
)
from caffe2torch.layers._broadcast import Broadcast


@register_layer()
class Bias(Broadcast):
    """y = x + bias over the axes from ``axis`` (default 1) on (Caffe: bias_layer.cpp).

    ``bias`` is the second bottom, or learned over ``num_axes`` (default 1) axes and filled
    with 0 by default.
    """

    type = "Bias"
    reads = NOTHING
    works_in_place = True

    filler: Message = field(repr=False)

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
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

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        if not self.learned:
            return None
        shape = self.operand_shape(bottoms)
        return t.runtime.Bias(shape, self._start(bottoms[0], len(shape)))

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        if self.learned:
            return t.module(inputs[0])
        return inputs[0] + self.align(inputs[1], bottoms)

    def affine(self, params: Mapping[str, FloatArray], channels: int) -> Affine | None:
        if not self.is_by_channel(params, "bias", channels):
            return None
        return Affine(np.ones(channels), params["bias"].astype(np.float64))

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        shape = self.operand_shape([g.shape(name) for name in inputs])
        bias = g.params["bias"] if self.learned else inputs[1]
        return [g.op("Add", inputs[0], self.align_onnx(g, bias, shape, inputs[0]))]
