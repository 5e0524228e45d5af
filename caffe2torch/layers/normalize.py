"""Normalize: the L2 norm of SSD, with a learned scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

import numpy as np

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
from caffe2torch.layers._broadcast import trailing


@register_layer()
class Normalize(Layer):
    """y = scale[c] * x / sqrt(sum(x ** 2) + eps) (SSD's Caffe: normalize_layer.cpp).

    The sum is over each image with ``across_spatial`` (the default), else over the channels
    at each position. ``scale`` is (C), or with ``channel_shared`` (the default) one value
    without axes; ``scale_filler`` defaults to the constant 1. Bottoms have two to four axes.
    """

    type = "Normalize"
    works_in_place = True

    across_spatial: bool
    channel_shared: bool
    eps: float
    scale_filler: Message = field(repr=False)

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = proto.norm_param
        filler = param.scale_filler if param.HasField("scale_filler") else constant_filler(1)
        return cls(
            name=proto.name,
            across_spatial=param.across_spatial,
            channel_shared=param.channel_shared,
            eps=param.eps,
            scale_filler=filler,
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        if not 2 <= len(bottoms[0]) <= 4:
            raise self.net_error(f"a bottom of shape {bottoms[0]} must have two to four axes")
        return [bottoms[0]]

    def keeps_finite(self, bottoms: Sequence[Shape]) -> bool:
        return self.eps > 0

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        shape = () if self.channel_shared else (bottoms[0][1],)
        return [BlobSpec("weight", shape, self.scale_filler, given=True)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        (x,), num_axes = inputs, len(bottoms[0])
        scale = t.params.weight
        if not self.channel_shared:
            scale = trailing(scale, num_axes - 2)
        return t.runtime.l2_normalize(x, scale, self._axes(num_axes), self.eps)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        (x,) = inputs
        num_axes = len(g.shape(x))
        scale = g.params["weight"]
        if not self.channel_shared:
            scale = g.op("Reshape", scale, g.const([-1] + [1] * (num_axes - 2), np.int64))
        total = g.op("ReduceSumSquare", x, axes=self._axes(num_axes))
        norm = g.op("Sqrt", g.op("Add", total, g.const(self.eps)))
        return [g.op("Mul", g.op("Div", x, norm), scale)]

    def _axes(self, num_axes: int) -> list[int]:
        return list(range(1, num_axes)) if self.across_spatial else [1]
