"""MaskResize: masks resized by bilinear interpolation between the corners of pixels."""

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
)
from caffe2torch.layers._grids import apply_onnx
from caffe2torch.layers._resize import scaled
from caffe2torch.layers._runtime.mask_weights import mask_weights
from caffe2torch.layers._spatial import require_axes


@register_layer()
class MaskResize(Layer):
    """y[p] = x at p * size / new size, bilinear, for (N, C, H, W).

    Forks: daijifeng001/caffe-mnc and BestSonny/SSTD, mask_resize_layer.cu. Places behind the last
    pixel take it, and those more than half a pixel behind are 0. The size is ``output_height``
    and ``output_width``; in SSTD's, an axis with a positive ``factor_height`` or
    ``factor_width`` has the whole part of its size times that. Errors: no output size, which is
    asked for in any case; not four axes; an empty top.
    """

    type = "MaskResize"
    parameters = Parameters(
        "mask_resize_param",
        """
        optional uint32 output_height = 1 [default = 0];
        optional uint32 output_width = 2 [default = 0];
        optional float factor_height = 3 [default = 0];
        optional float factor_width = 4 [default = 0];
        """,
    )

    size: Shape
    factors: tuple[float, float]

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        for name in ("output_height", "output_width"):
            if not getattr(param, name):
                raise net_error(proto, "must be positive", f"mask_resize_param.{name}")
        size = (param.output_height, param.output_width)
        return cls(proto.name, size, (param.factor_height, param.factor_width))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (shape,) = bottoms
        require_axes(self, shape)
        axes = zip(shape[2:], self.size, self.factors, strict=True)
        sizes = [scaled(n, f) if f > 0 else size for n, size, f in axes]
        return [(*shape[:2], *sizes)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        t.check(self, inputs)
        return t.runtime.resize_masks(inputs[0], self.size, self.factors)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        x, shape = inputs[0], g.shape(inputs[0])
        (top,) = self.infer_shapes([shape])
        high, wide = (np.array(mask_weights(*n)) for n in zip(shape[2:], top[2:], strict=True))
        return [apply_onnx(g, x, high, wide)]
