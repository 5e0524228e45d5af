"""ChannelScale: every vector of channels multiplied by a number of its own."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, ClassVar

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    BlobSpec,
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    constant_filler,
    net_error,
    register_layer,
)


@register_layer()
class ChannelScale(Layer):
    """y[n, :, s] = x[n, :, s] * scale[n, s], bottoms x (N, C, ..) and scale with N * S numbers.

    Fork: happynear/caffe-windows, channel_scale_layer.cpp. With ``global_scale`` the factor is
    the layer's only blob, scale (1), clipped to ``min_global_scale`` (default 0) and
    ``max_global_scale`` (default 1000); a second top (1) is that factor. Training sets the blob;
    it starts at -1. ``do_forward: false`` copies x. Errors: x of other than two or four axes,
    a scale of other numbers; a second top without global_scale.
    """

    type = "ChannelScale"
    bottoms = (2, 2)
    tops: ClassVar[tuple[int, int | None]] = (1, 2)
    works_in_place = True
    buffers = frozenset({"scale"})
    parameters = Parameters(
        "channel_scale_param",
        """
        optional bool do_forward = 1 [default = true];
        optional bool do_backward_feature = 2 [default = true];
        optional bool do_backward_scale = 3 [default = true];
        optional bool global_scale = 4 [default = false];
        optional float max_global_scale = 5 [default = 1000.0];
        optional float min_global_scale = 6 [default = 0.0];
        optional float init_global_scale = 7 [default = 1.0];
        """,
    )

    scales: bool
    limits: tuple[float, float] | None
    """Of the global scale; None for one at each position."""
    num_tops: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        if len(proto.top) > 1 and not (param.global_scale and param.do_forward):
            raise net_error(proto, "only a global scale has a second top", "top")
        limits = (param.min_global_scale, param.max_global_scale) if param.global_scale else None
        return cls(proto.name, param.do_forward, limits, len(proto.top))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        x, scale = bottoms
        if len(x) not in (2, 4):
            raise self.net_error(f"a bottom of shape {x} must have two or four axes")
        if x[0] != scale[0] or prod(x) // x[1] != prod(scale):
            raise self.net_error(f"a scale of shape {scale} does not fit a bottom of shape {x}")
        return [x, (1,)][: self.num_tops]

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        return [BlobSpec("scale", (1,), constant_filler(-1), given=True)] if self.limits else ()

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        x, scale = inputs
        if not self.scales:
            return x.clone()
        if self.limits:
            # Caffe takes the least of both first: a minimum above the maximum wins.
            one = t.params.scale.clamp(max=self.limits[1]).clamp(min=self.limits[0])
            return (x * one, one.clone())[: self.num_tops]
        return x * scale.reshape(x.shape[:1] + (1,) + x.shape[2:])  # noqa: RUF005

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        x, scale = inputs
        if not self.scales:
            return [g.op("Identity", x)]
        if self.limits:
            one = g.op("Min", g.params["scale"], g.const(self.limits[1]))
            one = g.op("Max", one, g.const(self.limits[0]))
            return [g.op("Mul", x, one), one][: self.num_tops]
        target = [-1, 1, *g.shape(x)[2:]]
        return [g.op("Mul", x, g.op("Reshape", scale, g.const(target, np.int64)))]
