"""Extend: each channel once for every orientation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.layers import NOTHING, OnnxBuilder, TorchBuilder, register_layer
from caffe2torch.layers._orientations import Orientations


@register_layer()
class Extend(Orientations):
    """y[n, c * K + k] = x[n, c] for K ``orientations``, on (N, C, H, W).

    Fork: MhLiao/RRD, extend_layer.cpp. It has no gradient there. Errors: no more than one
    orientation, not four axes.
    """

    type = "Extend"
    reads = NOTHING
    barred_bottoms = frozenset({0})

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        batch, channels, *sizes = super().infer_shapes(bottoms)[0]
        return [(batch, channels * self.orientations, *sizes)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.torch.repeat_interleave(inputs[0], self.orientations, dim=1)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        channels = np.arange(g.shape(inputs[0])[1]).repeat(self.orientations)
        return [g.op("Gather", inputs[0], g.const(channels, np.int64), axis=1)]
