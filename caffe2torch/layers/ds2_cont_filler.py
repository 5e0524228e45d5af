"""DS2ContFillerLayer: where the sequences of DeepSpeech 2 go on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, register_layer


@register_layer()
class DS2ContFiller(Layer):
    """y[t, n] = 0 for n = 0, else 1, for a bottom (T, N, ..) (CaffeDeepSpeech2).

    The Python layer ds2_cont_filler_layer.DS2ContFillerLayer. It makes the second bottom of
    LSTM layers, which would be 0 for t = 0 if it started sequences; the net was trained with
    it as it is. Errors: a bottom with fewer than two axes.
    """

    type = "Python ds2_cont_filler_layer.DS2ContFillerLayer"

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        if len(bottoms[0]) < 2:
            raise self.net_error(f"the bottom's shape {bottoms[0]} must have the axes (T, N, ..)")
        return [bottoms[0][:2]]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.runtime.all_but_first_stream(inputs[0])

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        first = g.const(np.arange(g.shape(inputs[0])[1])[None] > 0)
        size = g.op("Shape", inputs[0], end=2)
        return [g.op("Expand", first, size)]
