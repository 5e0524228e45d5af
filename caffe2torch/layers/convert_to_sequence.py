"""Convert: a row of an image as a sequence for an LSTM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import NOTHING, Layer, OnnxBuilder, TorchBuilder, register_layer


@register_layer()
class Convert(Layer):
    """y[w, n, c] = x[n, c, .., w]; a second top is cont (W, N), 0 for w = 0 and 1 for others.

    Fork: Yuliang-Liu/Curve-Text-Detector, convert_layer.cpp. Bottom (N, C, .., W). Errors: fewer
    than three axes; others of a size above 1.
    """

    type = "Convert"
    reads = NOTHING
    tops = (1, 2)

    has_cont: bool

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        return cls(name=proto.name, has_cont=len(proto.top) > 1)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        shape = bottoms[0]
        if len(shape) < 3 or any(size != 1 for size in shape[2:-1]):
            raise self.net_error(f"the bottom's shape {shape} is not (N, C, W) or (N, C, 1, W)")
        batch, channels, width = shape[0], shape[1], shape[-1]
        return [(width, batch, channels), (width, batch)][: 1 + self.has_cont]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        y = t.torch.permute(t.torch.flatten(inputs[0], 2), (2, 0, 1))
        return [y, t.runtime.later_steps(y)] if self.has_cont else y

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        shape = g.shape(inputs[0])
        x = g.op("Reshape", inputs[0], g.const([0, shape[1], shape[-1]], np.int64))
        y = g.op("Transpose", x, perm=[2, 0, 1])
        later = (np.arange(shape[-1]) > 0).astype(np.float32)[:, None]
        size = g.op("Shape", y, start=0, end=2)
        return [y, g.op("Expand", g.const(later), size)][: 1 + self.has_cont]
