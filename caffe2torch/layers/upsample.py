"""Upsampling by a pooling mask, to the nearest pixel, or to the size of another map."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    TEXT_ONLY,
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
    unsupported,
)
from caffe2torch.layers._elementwise import scale_shift
from caffe2torch.layers._runtime.resize_places import extrapolating_places
from caffe2torch.layers._spatial import require_axes


@register_layer()
class Upsample(Layer):
    """y[mask[p]] = x[p] and 0 elsewhere; without a mask, y[p] = x[p / scale].

    Two bottoms (SegNet's fork, upsample_layer.cpp): x and mask (N, C, H, W), the mask as
    Pooling's second top has it. The top's size is upsample_h, upsample_w if both are given,
    else ``size * scale``, less 1 for ``pad_out_h``, ``pad_out_w``. One bottom (YOLOv3's forks):
    the last two axes are repeated ``scale`` times. Default: scale 2 with a mask, 1 without.
    HiSilicon's form of it, ``stride`` or ``stride_h`` and ``stride_w``, is read with scale 1.

    Two bottoms of different sizes without any field (lyxok1/Tiny-DSOD): the second resized to
    the first, whose values are not read. Pixel p takes x at (p + 1) * size / new size - 1,
    bilinear; before the first pixel the first two are extrapolated.

    Errors: an upsample_h or upsample_w, or a scale of the form with a mask, below 2; scale
    and scale_h, scale_w together or one of these alone; pad_out with another scale than 2;
    bottoms of different shapes. Without a mask, other fields than scale and stride are refused.
    """

    type = "Upsample"
    parameters = Parameters(
        "upsample_param",
        f"""
        optional uint32 scale = 1 [default = 2];
        optional uint32 scale_h = 2;
        optional uint32 scale_w = 3;
        optional bool pad_out_h = 4 [default = false];
        optional bool pad_out_w = 5 [default = false];
        optional uint32 upsample_h = 6;
        optional uint32 upsample_w = 7;
        optional uint32 stride = {TEXT_ONLY};
        optional uint32 stride_h = {TEXT_ONLY + 1};
        optional uint32 stride_w = {TEXT_ONLY + 2};
        """,
    )
    bottoms: ClassVar[tuple[int, int | None]] = (1, 2)

    scale: Shape
    pad_out: Shape
    size: Shape | None
    """Height and width of the top, if the net gives them."""
    plain: bool = False
    """Whether there are two bottoms and no field."""

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
        return cls(proto.name, scale, pad_out, None, plain=not param.ListFields())

    def _output_sizes(self, sizes: Sequence[int]) -> Shape:
        return self.size or tuple(
            n * s - p for n, s, p in zip(sizes, self.scale, self.pad_out, strict=True)
        )

    def _resizes(self, bottoms: Sequence[Shape]) -> bool:
        """Whether the second bottom is a map to resize, no mask."""
        if not self.plain or bottoms[0] == bottoms[1] or bottoms[0][:2] != bottoms[1][:2]:
            return False
        pairs = zip(*bottoms, strict=False)
        return len(bottoms[1]) == 4 and all(large >= small for large, small in pairs)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        shape = bottoms[0]
        if len(bottoms) > 1:
            require_axes(self, shape)
            if self._resizes(bottoms):
                return [shape]
            if bottoms[1] != shape:
                raise self.net_error(f"bottom {shape} and mask {bottoms[1]} differ in shape")
        elif len(shape) < 2:
            raise self.net_error(f"a bottom of shape {shape} has no two axes to upsample")
        return [(*shape[:-2], *self._output_sizes(shape[-2:]))]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        if len(inputs) > 1 and self._resizes(bottoms):
            return t.runtime.resize_extrapolating(inputs[1], inputs[0].shape[2:])
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
        if self._resizes([g.shape(value) for value in inputs]):
            return [self._resized_onnx(g, inputs[1], shape[2:])]
        height, width = self._output_sizes(shape[2:])
        flat = g.const([0, 0, -1], np.int64)
        index = g.op("Cast", g.op("Reshape", inputs[1], flat), to=_INT64)
        size = g.op("Concat", g.op("Shape", x, end=2), g.const([height * width], np.int64), axis=0)
        zeros = g.op("Expand", g.const(0.0), size)
        y = g.op("ScatterElements", zeros, index, g.op("Reshape", x, flat), axis=2)
        return [g.op("Reshape", y, g.const([0, 0, height, width], np.int64))]

    def _resized_onnx(self, g: OnnxBuilder, x: str, sizes: Sequence[int]) -> str:
        for axis, (size, new) in enumerate(zip(g.shape(x)[2:], sizes, strict=True), 2):
            places, weights = extrapolating_places(size, new)
            after = [min(place + 1, size - 1) for place in places]
            weight = np.array(weights).reshape(-1, *[1] * (3 - axis))
            before = g.op("Gather", x, g.const(places, np.int64), axis=axis)
            behind = g.op("Gather", x, g.const(after, np.int64), axis=axis)
            before = g.op("Mul", before, g.const(1 - weight))
            x = g.op("Add", before, g.op("Mul", behind, g.const(weight)))
        return x

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
    strides = [param.HasField(field) for field in ("stride", "stride_h", "stride_w")]
    if any(strides):
        stride = (param.stride,) * 2 if strides[0] else (param.stride_h, param.stride_w)
        if scale != 1 or strides not in ([True, False, False], [False, True, True]):
            raise unsupported(
                proto, "give stride, or stride_h and stride_w, with scale 1", "stride"
            )
        if min(stride) < 1:
            raise net_error(proto, "it must be positive", "stride")
        return stride
    if scale < 1:
        raise net_error(proto, "it must be positive", "scale")
    return scale, scale


def _mask_scale(proto: Message, param: Message) -> Shape:
    if any(param.HasField(field) for field in ("stride", "stride_h", "stride_w")):
        raise unsupported(proto, "it has no meaning with a mask", "stride")
    given = [param.HasField(field) for field in ("scale_h", "scale_w")]
    if any(given) and (not all(given) or param.HasField("scale")):
        raise net_error(proto, "give either scale or both scale_h and scale_w", "scale")
    scale = (param.scale_h, param.scale_w) if any(given) else (param.scale,) * 2
    if min(scale) < 2:
        raise net_error(proto, f"{scale} must be 2 or more", "scale")
    return scale
