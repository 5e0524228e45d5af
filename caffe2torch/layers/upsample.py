"""Upsampling by a pooling mask, or to the nearest pixel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

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
from caffe2torch.layers._elementwise import scale_shift
from caffe2torch.layers._spatial import require_axes


@register_layer()
class Upsample(Layer):
    """y[mask[p]] = x[p] and 0 elsewhere; without a mask, y[p] = x[p / scale].

    Two bottoms (SegNet's fork, upsample_layer.cpp): x and mask (N, C, H, W), the mask as
    Pooling's second top has it. The top's size is upsample_h, upsample_w if both are given,
    else ``size * scale``, less 1 for ``pad_out_h``, ``pad_out_w``. One bottom (YOLOv3's forks):
    the last two axes are repeated ``scale`` times. Default: scale 2 with a mask, 1 without.

    Errors: an upsample_h or upsample_w, or a scale of the form with a mask, below 2; scale
    and scale_h, scale_w together or one of these alone; pad_out with another scale than 2;
    bottoms of different shapes. Without a mask, fields other than scale are refused.
    """

    type = "Upsample"
    parameters = Parameters(
        "upsample_param",
        """
        optional uint32 scale = 1 [default = 2];
        optional uint32 scale_h = 2;
        optional uint32 scale_w = 3;
        optional bool pad_out_h = 4 [default = false];
        optional bool pad_out_w = 5 [default = false];
        optional uint32 upsample_h = 6;
        optional uint32 upsample_w = 7;
        """,
    )
    bottoms: ClassVar[tuple[int, int | None]] = (1, 2)

    scale: Shape
    pad_out: Shape
    size: Shape | None
    """Height and width of the top, if the net gives them."""

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        if len(proto.bottom) == 1:
            return cls(proto.name, _nearest_scale(proto, param), (0, 0), None)
        if param.HasField("upsample_h") and param.HasField("upsample_w"):
            size = param.upsample_h, param.upsample_w
            if min(size) < 2:
                raise net_error(proto, f"{size} must both be 2 or more", "upsample_h")
            return cls(proto.name, (1, 1), (0, 0), size)
        scale = _mask_scale(proto, param)
        pad_out = int(param.pad_out_h), int(param.pad_out_w)
        if any(p and s != 2 for p, s in zip(pad_out, scale, strict=True)):
            raise net_error(proto, f"it needs a scale of 2, not {scale}", "pad_out_h")
        return cls(proto.name, scale, pad_out, None)

    def _output_sizes(self, sizes: Sequence[int]) -> Shape:
        return self.size or tuple(
            n * s - p for n, s, p in zip(sizes, self.scale, self.pad_out, strict=True)
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        shape = bottoms[0]
        if len(bottoms) > 1:
            require_axes(self, shape)
            if bottoms[1] != shape:
                raise self.net_error(f"bottom {shape} and mask {bottoms[1]} differ in shape")
        elif len(shape) < 2:
            raise self.net_error(f"a bottom of shape {shape} has no two axes to upsample")
        return [(*shape[:-2], *self._output_sizes(shape[-2:]))]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        if len(inputs) > 1:
            sides = zip((2, 3), self.scale, self.pad_out, strict=True)
            size = self.size or tuple(scale_shift(inputs[0].shape[i], s, -p) for i, s, p in sides)
            return t.runtime.unpool(*inputs, size)
        x = t.torch.repeat_interleave(inputs[0], self.scale[0], dim=-2)
        return t.torch.repeat_interleave(x, self.scale[1], dim=-1)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        x = inputs[0]
        shape = g.shape(x)
        if len(inputs) == 1:
            return [self._nearest_onnx(g, x, shape)]
        height, width = self._output_sizes(shape[2:])
        flat = g.const([0, 0, -1], np.int64)
        index = g.op("Cast", g.op("Reshape", inputs[1], flat), to=_INT64)
        size = g.op("Concat", g.op("Shape", x, end=2), g.const([height * width], np.int64), axis=0)
        zeros = g.op("Expand", g.const(0.0), size)
        y = g.op("ScatterElements", zeros, index, g.op("Reshape", x, flat), axis=2)
        return [g.op("Reshape", y, g.const([0, 0, height, width], np.int64))]

    def _nearest_onnx(self, g: OnnxBuilder, x: str, shape: Shape) -> str:
        scales = [1.0] * (len(shape) - 2) + [float(s) for s in self.scale]
        return str(
            g.op(
                "Resize",
                x,
                "",
                g.const(scales),
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
        )


_INT64 = 7
"""ONNX's number for int64."""


def _nearest_scale(proto: Message, param: Message) -> Shape:
    for field in ("scale_h", "scale_w", "upsample_h", "upsample_w", "pad_out_h", "pad_out_w"):
        if param.HasField(field):
            raise unsupported(proto, "it has no meaning without a mask", field)
    scale = param.scale if param.HasField("scale") else 1
    if scale < 1:
        raise net_error(proto, "it must be positive", "scale")
    return scale, scale


def _mask_scale(proto: Message, param: Message) -> Shape:
    given = [param.HasField(field) for field in ("scale_h", "scale_w")]
    if any(given) and (not all(given) or param.HasField("scale")):
        raise net_error(proto, "give either scale or both scale_h and scale_w", "scale")
    scale = (param.scale_h, param.scale_w) if any(given) else (param.scale,) * 2
    if min(scale) < 2:
        raise net_error(proto, f"{scale} must be 2 or more", "scale")
    return scale
