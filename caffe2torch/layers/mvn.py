"""MVN: normalise the mean and variance of each image or of each of its channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, register_layer


@register_layer()
class MVN(Layer):
    """y = (x - mean) / (sqrt(variance) + eps) (Caffe: mvn_layer.cpp).

    The statistics, with the biased variance, are those of each channel's H x W values, or
    with ``across_channels`` of each image's C x H x W. ``normalize_variance`` false leaves
    the division out. Bottoms of fewer than four axes are read as (N, C, H, W) with 1 for
    what is missing; the top is always 4-D. More than four axes are an error.
    """

    type = "MVN"
    works_in_place = True

    normalize_variance: bool
    across_channels: bool
    eps: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = proto.mvn_param
        return cls(
            name=proto.name,
            normalize_variance=param.normalize_variance,
            across_channels=param.across_channels,
            eps=param.eps,
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        if len(bottoms[0]) > 4:
            raise self.net_error(f"a bottom of shape {bottoms[0]} has more than four axes")
        return [bottoms[0] + (1,) * (4 - len(bottoms[0]))]

    def keeps_finite(self, bottoms: Sequence[Shape]) -> bool:
        return self.eps > 0

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        eps = self.eps if self.normalize_variance else None
        return t.runtime.mvn(inputs[0], self._axes, eps)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        x = inputs[0]
        num_axes = len(g.shape(x))
        if num_axes < 4:
            x = g.op("Reshape", x, g.const([0] * num_axes + [1] * (4 - num_axes), np.int64))
        x = g.op("Sub", x, g.op("ReduceMean", x, axes=self._axes))
        if not self.normalize_variance:
            return [x]
        variance = g.op("ReduceMean", g.op("Mul", x, x), axes=self._axes)
        return [g.op("Div", x, g.op("Add", g.op("Sqrt", variance), g.const(self.eps)))]

    @property
    def _axes(self) -> list[int]:
        return [1, 2, 3] if self.across_channels else [2, 3]
