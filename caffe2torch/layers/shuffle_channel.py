"""ShuffleNet's interleaving of channel groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
    unsupported,
)


@register_layer()
class ShuffleChannel(Layer):
    """y[n, j * group + i] = x[n, i * C / group + j]: channel j of each group i in turn.

    Fork: farmingyard/ShuffleNet, shuffle_channel_layer.cpp. Bottom and top (N, C, ...).
    Errors: group 0, channels not divisible by group, fewer than two axes. Refused: no group. The
    default is 1, which changes nothing, and bacTlink/caffe_illu has a layer of this name without
    parameters that shuffles at random.
    """

    type = "ShuffleChannel"
    parameters = Parameters(
        "shuffle_channel_param",
        """
        optional uint32 group = 1 [default = 1];
        """,
    )

    group: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        if not param.HasField("group"):
            raise unsupported(
                proto,
                "without it forks leave the channels as they are or shuffle them at random: write "
                "group: 1 if they stay",
                "shuffle_channel_param.group",
            )
        group = param.group
        if group < 1:
            raise net_error(proto, "it must be positive", "group")
        return cls(name=proto.name, group=group)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (shape,) = bottoms
        if len(shape) < 2:
            raise self.net_error(f"a bottom of shape {shape} has no channel axis")
        if shape[1] % self.group:
            raise self.net_error(f"{shape[1]} channels are not divisible by {self.group}", "group")
        return [shape]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.runtime.shuffle_channels(inputs[0], self.group)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        (x,) = inputs
        _, channels, *rest = g.shape(x)
        grouped = [-1, self.group, channels // self.group, *rest]
        order = [0, 2, 1, *range(3, len(grouped))]
        y = g.op("Reshape", x, g.const(grouped, np.int64))
        y = g.op("Transpose", y, perm=order)
        return [g.op("Reshape", y, g.const([-1, channels, *rest], np.int64))]
