"""EltwiseAffine: y = slope[c] * x + bias[c]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np

from caffe2torch.graph import FloatArray, Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Affine,
    BlobSpec,
    Layer,
    OnnxBuilder,
    Parameters,
    Reads,
    TorchBuilder,
    constant_filler,
    register_layer,
)


@register_layer()
class EltwiseAffine(Layer):
    """y = slope[c] * x + bias[c] for a bottom (N, C, ..).

    Fork: ducha-aiki/caffe, eltwise_affine_layer.cpp. Slope and bias are (C), or with
    ``channel_shared`` one number each, without axes. ``slope_filler`` defaults to the constant
    1.0001, ``bias_filler`` to 0.0001. Errors: fewer than two axes.
    """

    type = "EltwiseAffine"
    works_in_place = True
    parameters = Parameters(
        "eltwise_affine_param",
        """
        optional FillerParameter slope_filler = 1;
        optional FillerParameter bias_filler = 2;
        optional bool channel_shared = 3 [default = false];
        """,
    )

    shared: bool
    slope_filler: Message = field(repr=False)
    bias_filler: Message = field(repr=False)

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        slope, bias = constant_filler(1.0001), constant_filler(0.0001)
        return cls(
            name=proto.name,
            shared=param.channel_shared,
            slope_filler=param.slope_filler if param.HasField("slope_filler") else slope,
            bias_filler=param.bias_filler if param.HasField("bias_filler") else bias,
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        if len(bottoms[0]) < 2:
            raise self.net_error(f"a bottom of shape {bottoms[0]} has fewer than two axes")
        return [bottoms[0]]

    def backward_reads(self, in_place: bool) -> Reads:
        return Reads(slice(0)) if in_place else Reads()  # In place the fork keeps a copy.

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        shape = () if self.shared else (bottoms[0][1],)
        return [
            BlobSpec("weight", shape, self.slope_filler, given=True),
            BlobSpec("bias", shape, self.bias_filler, given=True),
        ]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.runtime.channel_affine(inputs[0], t.params.weight, t.params.bias)

    def affine(self, params: Mapping[str, FloatArray], channels: int) -> Affine | None:
        slope, bias = (params[name].astype(np.float64) for name in ("weight", "bias"))
        return Affine(np.broadcast_to(slope, (channels,)), np.broadcast_to(bias, (channels,)))

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        column = g.const([-1] + [1] * (len(g.shape(inputs[0])) - 2), np.int64)
        slope, bias = (g.op("Reshape", g.params[name], column) for name in ("weight", "bias"))
        return [g.op("Add", g.op("Mul", inputs[0], slope), bias)]
