"""PReLU: y = max(x, 0) + slope * min(x, 0) with learned slopes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np

from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    NOTHING,
    BlobSpec,
    Layer,
    OnnxBuilder,
    Reads,
    TorchBuilder,
    constant_filler,
    register_layer,
)


@register_layer()
class PReLU(Layer):
    """y = max(x, 0) + slope[c] * min(x, 0) for bottoms (N, C, ..) (Caffe: prelu_layer.cpp).

    The slopes are (C), or with ``channel_shared`` a single one, which Caffe holds without
    axes and torch as (1). ``filler`` defaults to the constant 0.25. A bottom has two to four
    axes.
    """

    type = "PReLU"
    works_in_place = True

    channel_shared: bool
    filler: Message = field(repr=False)

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = proto.prelu_param
        filler = param.filler if param.HasField("filler") else constant_filler(0.25)
        return cls(name=proto.name, channel_shared=param.channel_shared, filler=filler)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        if len(bottoms[0]) < 2:
            raise self.net_error(f"a bottom of shape {bottoms[0]} has fewer than two axes")
        if len(bottoms[0]) > 4:
            raise self.net_error(f"a bottom of shape {bottoms[0]} has more than four axes")
        return [bottoms[0]]

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        shape = () if self.channel_shared else (bottoms[0][1],)
        return [BlobSpec("weight", shape, self.filler, given=True)]

    def import_blobs(
        self, blobs: Sequence[FloatArray], bottoms: Sequence[Shape]
    ) -> Mapping[str, FloatArray]:
        return {"weight": blobs[0].reshape(-1)}

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        channels = [] if self.channel_shared else [bottoms[0][1]]
        return t.nn.PReLU(*channels)

    def backward_reads(self, in_place: bool) -> Reads:
        return NOTHING if in_place else Reads()  # In place Caffe keeps a copy of the bottom.

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        spatial = len(g.shape(inputs[0])) - 2
        slope = g.params["weight"]
        if spatial and not self.channel_shared:
            slope = g.op("Reshape", slope, g.const([-1] + [1] * spatial, np.int64))
        if spatial == 2 or self.channel_shared:
            return [g.op("PRelu", inputs[0], slope)]
        # OpenCV 5.0 has another slope for each value where the image has not two axes.
        below = g.op("Min", inputs[0], g.const(0.0))
        return [g.op("Add", g.op("Relu", inputs[0]), g.op("Mul", slope, below))]
