"""ORPooling: the largest of each channel's orientations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.layers import NOTHING, OnnxBuilder, TorchBuilder, register_layer
from caffe2torch.layers._orientations import Orientations

_LEAST = -999999.0
"""What the fork starts from, and so returns where no number is above it."""


@register_layer()
class ORPooling(Orientations):
    """y[n, c] = max over k of x[n, c * K + k] for K ``orientations``; -999999 if none is above it.

    Fork: MhLiao/RRD, orpooling_layer.cpp. Bottom (N, C K, H, W). Errors: no more than one
    orientation, channels that they do not divide, not four axes.
    """

    type = "ORPooling"
    reads = NOTHING

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        batch, channels, *sizes = super().infer_shapes(bottoms)[0]
        if channels % self.orientations:
            raise self.net_error(
                f"the bottom's {channels} channels are not divisible by {self.orientations}",
                "orn_param.orientations",
            )
        return [(batch, channels // self.orientations, *sizes)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.runtime.largest_of_each(inputs[0], self.orientations, _LEAST)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        x, (_, channels, *sizes) = inputs[0], g.shape(inputs[0])
        groups = [0, channels // self.orientations, self.orientations, *sizes]
        x = g.op("Reshape", x, g.const(groups, np.int64))
        above = g.op("Greater", x, g.const(_LEAST))
        x = g.op("Where", above, x, g.const(_LEAST))
        return [g.op("ReduceMax", x, axes=[2], keepdims=0)]
