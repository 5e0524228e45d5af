"""Bilinear resizing that aligns the corners."""

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
from caffe2torch.layers._onnx import resize_aligned
from caffe2torch.layers._spatial import require_axes


@register_layer()
class Interp(Layer):
    """y[p] = x at p * (size - 1) / (output size - 1), bilinear between pixels.

    Fork: DeepLab's Caffe, interp_layer.cpp. Bottom (N, C, H, W), cropped first by
    ``-pad_beg`` pixels at the top and left and ``-pad_end`` at the bottom and right. Output
    sizes: of the second bottom, if there is one (PSPNet's and other forks; py-RFCN-priv's says so
    by ``use_blob_size``); else
    ``(size - 1) / shrink_factor + 1`` or ``size + (size - 1) * (zoom_factor - 1)`` if only
    that factor is given; else ``height`` and ``width``; else the shrunk size zoomed.

    Errors: a positive pad, a factor below 1, no output size, a crop that leaves nothing,
    ``use_blob_size`` without a second bottom. A second bottom beside a size or factor is refused
    without that field, as the forks differ about it.
    """

    type = "Interp"
    parameters = Parameters(
        "interp_param",
        """
        optional int32 height = 1 [default = 0];
        optional int32 width = 2 [default = 0];
        optional int32 zoom_factor = 3 [default = 1];
        optional int32 shrink_factor = 4 [default = 1];
        optional int32 pad_beg = 5 [default = 0];
        optional int32 pad_end = 6 [default = 0];
        optional bool use_blob_size = 7 [default = false];
        """,
    )
    bottoms: ClassVar[tuple[int, int | None]] = (1, 2)

    pad_beg: int
    pad_end: int
    shrink_factor: int
    zoom_factor: int
    size: Shape | None
    """Height and width, if they are given and in force."""

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        for field in ("pad_beg", "pad_end"):
            if getattr(param, field) > 0:
                raise net_error(proto, "it only crops: it must not be positive", field)
        for field in ("shrink_factor", "zoom_factor"):
            if getattr(param, field) < 1:
                raise net_error(proto, "it must be 1 or more", field)
        factors = [param.HasField(field) for field in ("shrink_factor", "zoom_factor")]
        sized = param.HasField("height") and param.HasField("width")
        if param.use_blob_size and len(proto.bottom) == 1:
            raise net_error(proto, "it needs a second bottom", "interp_param.use_blob_size")
        if len(proto.bottom) > 1 and (any(factors) or sized) and not param.use_blob_size:
            raise unsupported(proto, "a second bottom and a size or factor both give the size")
        if len(proto.bottom) == 1 and not (any(factors) or sized):
            raise net_error(
                proto, "no output size; give height and width, zoom_factor or shrink_factor"
            )
        one_factor = any(factors) and not all(factors)
        return cls(
            name=proto.name,
            pad_beg=param.pad_beg,
            pad_end=param.pad_end,
            shrink_factor=param.shrink_factor,
            zoom_factor=param.zoom_factor,
            size=(param.height, param.width) if sized and not one_factor else None,
        )

    def _output_sizes(self, bottoms: Sequence[Sequence[int]]) -> Shape:
        if len(bottoms) > 1:
            return tuple(bottoms[1][2:])
        if self.size:
            return self.size
        sizes = (n + self.pad_beg + self.pad_end for n in bottoms[0][2:])
        shrunk = ((n - 1) // self.shrink_factor + 1 for n in sizes)
        return tuple(n + (n - 1) * (self.zoom_factor - 1) for n in shrunk)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        for bottom in bottoms:
            require_axes(self, bottom)
        shape = bottoms[0]
        if min(shape[2:]) + self.pad_beg + self.pad_end < 1:
            raise self.net_error(f"cropping leaves nothing of a bottom of shape {shape}", "pad_beg")
        sizes = self._output_sizes(bottoms)
        if min(sizes) < 1:
            raise self.net_error(f"the output size {sizes} is not positive", "height")
        return [(*shape[:2], *sizes)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        t.check(self, inputs)
        x = inputs[0]
        if self.pad_beg or self.pad_end:
            x = t.F.pad(x, (self.pad_beg, self.pad_end) * 2)
        if len(inputs) > 1:
            size = inputs[1].shape[2:]
        elif self.size:
            size = tuple(self.size)
        else:
            crop = self.pad_beg + self.pad_end
            size = t.runtime.zoomed_size(inputs[0], crop, self.shrink_factor, self.zoom_factor)
        return t.F.interpolate(x, size, mode="bilinear", align_corners=True)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        x = inputs[0]
        shape = g.shape(x)
        sizes = self._output_sizes([g.shape(value) for value in inputs])
        crop = self.pad_beg + self.pad_end
        if self.pad_beg or self.pad_end:
            starts = [-self.pad_beg] * 2
            ends = [n + self.pad_end for n in shape[2:]]
            x = g.op("Slice", x, *(g.const(v, np.int64) for v in (starts, ends, [2, 3])))
        return [resize_aligned(g, x, [n + crop for n in shape[2:]], sizes)]
