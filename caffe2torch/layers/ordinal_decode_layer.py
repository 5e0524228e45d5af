"""The Python layer of DORN that counts the depths which a pixel exceeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.layers import NOTHING, Layer, OnnxBuilder, TorchBuilder, register_layer
from caffe2torch.layers._onnx import to_float
from caffe2torch.layers._spatial import require_axes


@register_layer("Python ordinal_decode_layer.OrdinalDecodeLayer")
class OrdinalDecodeLayer(Layer):
    """y[n, 0] = how many k have x[n, 2 k + 1] above x[n, 2 k], for x (N, C, H, W).

    hufu6371/DORN, ordinal_decode_layer.py. A last channel without a partner does not count. There
    is no gradient. Errors: not four axes, one channel.
    """

    type = "Python ordinal_decode_layer.OrdinalDecodeLayer"
    reads = NOTHING

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        require_axes(self, bottoms[0])
        batch, channels, *sizes = bottoms[0]
        if channels < 2:
            raise self.net_error(f"a bottom of shape {bottoms[0]} has no two channels")
        return [(batch, 1, *sizes)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.runtime.decode_ordinals(inputs[0])

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        last = 2 * (g.shape(inputs[0])[1] // 2)
        at = np.arange(last)
        first, second = (
            g.op("Gather", inputs[0], g.const(at[i::2], np.int64), axis=1) for i in range(2)
        )
        above = to_float(g, g.op("Greater", second, first))
        return [g.op("ReduceSum", above, g.const([1], np.int64), keepdims=1)]
