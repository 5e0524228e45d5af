"""Normalize: the L2 norm of SSD with a learned scale, and the norms of face recognition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any, ClassVar

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    BlobSpec,
    Layer,
    OnnxBuilder,
    Parameters,
    Reads,
    TorchBuilder,
    constant_filler,
    net_error,
    register_layer,
)
from caffe2torch.layers._broadcast import trailing


@register_layer()
class Normalize(Layer):
    """y = scale[c] * x / sqrt(sum(x ** 2) + eps) (SSD's Caffe: normalize_layer.cpp).

    The sum is over each image with ``across_spatial`` (the default), else over the channels
    at each position. ``scale`` is (C), or with ``channel_shared`` (the default) one value
    without axes; ``scale_filler`` defaults to the constant 1. Bottoms have two to four axes.

    With a ``normalize_param`` it is the layer of happynear's fork (normalize_layer.cpp): no
    scale, y = x / norm over the channels at each position, with norm = sqrt(sum(x ** 2) + 1e-6)
    for the ``normalize_type`` "L2" (the default), sum(|x|) + 1e-6 for "L1". Its tops have four
    axes, (N, C, H, W), where H and W are 1 for a bottom without them; a second top is the norm
    (N, 1, H, W). Errors: another type; both messages; two tops without a normalize_param.
    """

    type = "Normalize"
    reads = Reads(slice(None), slice(None))
    works_in_place = True
    tops: ClassVar[tuple[int, int | None]] = (1, 2)
    parameters = Parameters(
        "normalize_param",
        """
        optional string normalize_type = 1 [default = "L2"];
        optional bool fix_gradient = 2 [default = false];
        optional bool bp_norm = 3 [default = false];
        """,
        beside="norm_param",
    )

    norm: str | None
    """L1 or L2 of happynear's layer; None for SSD's."""
    num_tops: int
    across_spatial: bool
    channel_shared: bool
    eps: float
    scale_filler: Message = field(repr=False)

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param, own = proto.norm_param, cls.parameters.of(proto)
        norm = own.normalize_type if cls.parameters.given(proto) else None
        if norm not in (None, "L1", "L2"):
            raise net_error(
                proto, f"{norm!r} is neither 'L1' nor 'L2'", "normalize_param.normalize_type"
            )
        if norm and proto.HasField("norm_param"):
            raise net_error(proto, "norm_param is of another Normalize; keep one", "norm_param")
        if norm is None and len(proto.top) > 1:
            raise net_error(proto, "SSD's layer has one top; the norm needs normalize_param", "top")
        filler = param.scale_filler if param.HasField("scale_filler") else constant_filler(1)
        return cls(
            name=proto.name,
            norm=norm,
            num_tops=len(proto.top),
            across_spatial=param.across_spatial,
            channel_shared=param.channel_shared,
            eps=param.eps,
            scale_filler=filler,
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        if not 2 <= len(bottoms[0]) <= 4:
            raise self.net_error(f"a bottom of shape {bottoms[0]} must have two to four axes")
        if not self.norm:
            return [bottoms[0]]
        n, c, h, w = (*bottoms[0], 1, 1)[:4]
        return [(n, c, h, w), (n, 1, h, w)][: self.num_tops]

    def keeps_finite(self, bottoms: Sequence[Shape]) -> bool:
        return self.norm is not None or self.eps > 0

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        if self.norm:
            return ()
        shape = () if self.channel_shared else (bottoms[0][1],)
        return [BlobSpec("weight", shape, self.scale_filler, given=True)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        (x,), num_axes = inputs, len(bottoms[0])
        if self.norm:
            tops = t.runtime.norm_of_channels(x, self.norm == "L2")
            return tops if self.num_tops > 1 else tops[0]
        scale = t.params.weight
        if not self.channel_shared:
            scale = trailing(scale, num_axes - 2)
        return t.runtime.l2_normalize(x, scale, self._axes(num_axes), self.eps)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        (x,) = inputs
        num_axes = len(g.shape(x))
        if self.norm:
            if num_axes < 4:
                x = g.op("Reshape", x, g.const([*[0] * num_axes, *[1] * (4 - num_axes)], np.int64))
            kind = "ReduceSumSquare" if self.norm == "L2" else "ReduceL1"
            norm = g.op("Add", g.op(kind, x, axes=[1]), g.const(1e-6))
            norm = g.op("Sqrt", norm) if self.norm == "L2" else norm
            return [g.op("Div", x, norm), norm][: self.num_tops]
        scale = g.params["weight"]
        if not self.channel_shared:
            scale = g.op("Reshape", scale, g.const([-1] + [1] * (num_axes - 2), np.int64))
        total = g.op("ReduceSumSquare", x, axes=self._axes(num_axes))
        norm = g.op("Sqrt", g.op("Add", total, g.const(self.eps)))
        return [g.op("Mul", g.op("Div", x, norm), scale)]

    def _axes(self, num_axes: int) -> list[int]:
        return list(range(1, num_axes)) if self.across_spatial else [1]
