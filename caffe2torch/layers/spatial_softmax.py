"""SpatialSoftmax: the softmax over the pixels of each map."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Backward,
    Layer,
    OnnxBuilder,
    Parameters,
    Reads,
    TorchBuilder,
    net_error,
    register_layer,
)


@register_layer()
class SpatialSoftmax(Layer):
    """y = exp(x / temperature) / sum of exp(x / temperature) over the last two axes.

    Fork: cbfinn/caffe, spatial_softmax_layer.cu. ``temperature`` is 1 by default. Errors: a
    temperature of 0, fewer than two axes, maps of one pixel, whose sum that code never makes.
    """

    type = "SpatialSoftmax"
    reads = Reads(slice(0), slice(None))
    works_in_place = True
    parameters = Parameters(
        "spatial_softmax_param",
        """
        enum Engine { DEFAULT = 0; CAFFE = 1; CUDNN = 2; }
        optional Engine engine = 1 [default = DEFAULT];
        optional float temperature = 2 [default = 1];
        """,
    )

    temperature: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        temperature = cls.parameters.of(proto).temperature
        if not temperature:
            raise net_error(proto, "must not be 0", "spatial_softmax_param.temperature")
        return cls(name=proto.name, temperature=temperature)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        shape = bottoms[0]
        if len(shape) < 2 or prod(shape[-2:]) < 2:
            raise self.net_error(f"a bottom of shape {shape} has no maps of two pixels or more")
        return [shape]

    def gradient(self, t: TorchBuilder, found: Backward) -> Sequence[Any]:
        (diff,), (y,) = found.diffs, found.tops
        return [(diff - (diff * y).sum((-2, -1), keepdim=True)) * y / self.temperature]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.runtime.spatial_softmax(inputs[0], self.temperature)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        x = g.op("Div", inputs[0], g.const(self.temperature))
        x = g.op("Exp", g.op("Sub", x, g.op("ReduceMax", x, axes=[-2, -1], keepdims=1)))
        total = g.op("ReduceSum", x, g.const([-2, -1], np.int64), keepdims=1)
        return [g.op("Div", x, total)]
