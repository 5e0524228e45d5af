"""ImResize: maps resized by cubic interpolation, as OpenPose finds joints in them."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
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
from caffe2torch.layers._runtime.cubic_weights import cubic_weights
from caffe2torch.layers._spatial import require_axes


@register_layer()
class ImResize(Layer):
    """y = A_h x A_w^T for each map of (1, C, H, W), with a row of four weights for each pixel.

    Fork: CMU-Perceptual-Computing-Lab/caffe_rtpose, imresize_layer.cu. A pixel p of N' new ones
    lies at c = (p - (N' / N - 1) / 2) N / N' on N. Its neighbours are n = c rounded towards 0, and
    those before and after, all within the map; with d = c - n they weigh as Catmull-Rom's
    cubic does. That fork's code for the CPU calls OpenCV, whose cubic is another; nets of
    OpenPose run on a GPU.

    With ``factor`` N' = N factor, rounded down, else ``target_spatial_height`` and
    ``target_spatial_width`` (default 368). That code takes the items of a batch as scales of
    one image, and ``start_scale`` (default 1) is that of the first: pixels from the margin
    floor(N div 2 (1 - start_scale)) on belong to it. ``scale_gap`` is for others, so that only
    one item is converted. Errors: not four axes, more items, an empty map or top.
    """

    type = "ImResize"
    fixes_batch = True
    parameters = Parameters(
        "imresize_param",
        """
        optional uint32 target_spatial_width = 1 [default = 368];
        optional uint32 target_spatial_height = 2 [default = 368];
        optional float factor = 3 [default = 0];
        optional float start_scale = 4 [default = 1];
        optional float scale_gap = 5 [default = 0.1];
        """,
    )

    factor: float
    size: Shape
    """Height and width of the top where there is no factor."""
    start_scale: float

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        if not 0 < param.start_scale <= 1:
            raise net_error(proto, "must lie between 0 and 1", "imresize_param.start_scale")
        size = (param.target_spatial_height, param.target_spatial_width)
        return cls(proto.name, param.factor, size, param.start_scale)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (shape,) = bottoms
        require_axes(self, shape)
        if shape[0] != 1:
            raise self.net_error(
                f"it averages the {shape[0]} items as scales of one image; give it one"
            )
        if any(n <= 2 * margin for n, margin in zip(shape[2:], self._margins(shape), strict=True)):
            raise self.net_error("no pixel is left within the margin", "imresize_param.start_scale")
        sizes = [scaled(n, self.factor) for n in shape[2:]]
        return [(1, shape[1], *(sizes if self.factor else self.size))]

    def _margins(self, shape: Shape) -> Shape:
        return tuple(floor(n // 2 * (1 - self.start_scale)) for n in shape[2:])

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        t.check(self, inputs)
        size = None if self.factor else self.size
        return t.runtime.cubic_resize(inputs[0], size, self.factor, self.start_scale)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        x, shape = inputs[0], g.shape(inputs[0])
        (top,) = self.infer_shapes([shape])
        sides = zip(shape[2:], top[2:], self._margins(shape), strict=True)
        high, wide = (np.array(cubic_weights(*side)) for side in sides)
        return [apply_onnx(g, x, high, wide)]
