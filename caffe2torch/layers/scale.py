"""Scale: multiply by an array broadcast over some axes, then add another."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import field
from math import prod
from typing import Any

import numpy as np

from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Affine,
    BlobSpec,
    Layer,
    OnnxBuilder,
    Reads,
    TorchBuilder,
    canonical_axis,
    constant_filler,
    register_layer,
)
from caffe2torch.layers._broadcast import Broadcast


@register_layer()
class Scale(Broadcast):
    """y = x * scale + bias over the axes from ``axis`` (default 1) on (Caffe: scale_layer.cpp).

    ``scale`` is the second bottom, or a learned weight over ``num_axes`` (default 1) axes,
    filled with 1 by default. ``bias_term`` (default false) adds a learned bias of the same
    shape, filled with 0 by default.
    """

    type = "Scale"
    works_in_place = True

    bias_term: bool
    filler: Message = field(repr=False)
    bias_filler: Message = field(repr=False)

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
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

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        if self.bias_term:  # It wants the axis, which a scale without axes does not.
            canonical_axis(self, self.axis, len(bottoms[0]))
        return super().infer_shapes(bottoms)

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        shape = self.operand_shape(bottoms)
        weight = BlobSpec("weight", shape, self.filler, given=True)
        bias = BlobSpec("bias", shape, self.bias_filler, given=True)
        return [weight] * self.learned + [bias] * self.bias_term

    def overwritten_gradients(self, bottoms: Sequence[Shape]) -> Collection[str]:
        """The scale, where nothing is before its axes, as in a batch of one item.

        One number for several values is an exception.
        """
        shape, x = self.operand_shape(bottoms), bottoms[0]
        before = prod(x[: self._start(x, len(shape))]) if shape else 1
        is_one = prod(shape) == 1 and prod(x) > 1
        return {"weight"} if self.learned and before == 1 and not is_one else ()

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        shape = self.operand_shape(bottoms)
        start = self._start(bottoms[0], len(shape))
        if self.learned:
            return t.runtime.Scale(shape, start, bias=self.bias_term)
        return t.runtime.Bias(shape, start) if self.bias_term else None

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        if self.learned:
            return t.module(inputs[0])
        y = inputs[0] * self.align(inputs[1], bottoms)
        return t.module(y) if self.bias_term else y

    def affine(self, params: Mapping[str, FloatArray], channels: int) -> Affine | None:
        if not self.is_by_channel(params, "weight", channels):
            return None
        shift = params["bias"] if self.bias_term else np.zeros(channels)
        return Affine(params["weight"].astype(np.float64), shift.astype(np.float64))

    def backward_reads(self, in_place: bool) -> Reads:
        return Reads(slice(1, None)) if in_place else Reads()  # In place Caffe keeps a copy.

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        x = inputs[0]
        shape = self.operand_shape([g.shape(name) for name in inputs])
        weight = g.params["weight"] if self.learned else inputs[1]
        y = g.op("Mul", x, self.align_onnx(g, weight, shape, x))
        if self.bias_term:
            y = g.op("Add", y, self.align_onnx(g, g.params["bias"], shape, x))
        return [y]
