"""MVN: normalise the mean and variance of each image or of each of its channels."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    NOTHING,
    Backward,
    Layer,
    OnnxBuilder,
    Reads,
    TorchBuilder,
    register_layer,
)


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

    def backward_reads(self, in_place: bool) -> Reads:
        if not self.normalize_variance:
            return NOTHING
        return Reads(slice(0), slice(None), always=in_place)

    def gradient(self, t: TorchBuilder, found: Backward) -> Sequence[Any]:
        """(g - (mean(g) + y * mean(g * y))) / (deviation + eps), g the top's gradient.

        In place Caffe writes y * sum(g * y) over g before it is through with it.
        """
        (x,), (y,), (diff,) = found.given, found.tops, found.diffs
        x, count = x.reshape(y.shape), prod(y.shape[self._axes[0] :])
        centred = x - x.mean(self._axes, keepdim=True)
        deviation = centred.square().mean(self._axes, keepdim=True).sqrt() + self.eps

        def total(values: Any) -> Any:
            return values.sum(self._axes, keepdim=True)

        if found.in_place:
            changed = y * total(diff * y)
            made = (changed + total(changed)) * (-2 / count)
        else:
            made = diff - (total(diff) + y * total(diff * y)) / count
        return [(made / deviation).reshape(found.given[0].shape)]

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
