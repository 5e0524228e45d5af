"""PointwiseSpatialAttention: each pixel from all others, with weights of its own."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
)
from caffe2torch.layers._onnx import check_constant
from caffe2torch.layers._spatial import require_axes


@register_layer()
class PointwiseSpatialAttention(Layer):
    """y[c, p] = sum over q of x[c, q] * a[q, p] / factor, for the pixels p and q of x.

    Fork: hszhao/PSANet, pointwise_spatial_attention_layer.cpp. Bottoms: x (N, C, H, W), masks
    (N, mask_h * mask_w, H, W). The masks of pixel p are numbers for the pixels of a window of
    mask_h x mask_w around p: a[q, p] of COLLECT, a[p, q] of DISTRIBUTE (``psa_type``), 0 for the
    pixels outside. With ``is_softmax`` (default false) a softmax over q follows, zeros included.

    The window is ``attention_mask_height`` x ``attention_mask_width``, by default 2 H - 1 x
    2 W - 1, which reaches all pixels. ``normalization_factor`` is mask_h * mask_w by default.
    Errors: a window of even size, or 1, one size alone, other shapes.
    """

    type = "PointwiseSpatialAttention"
    bottoms = (2, 2)
    parameters = Parameters(
        "pointwise_spatial_attention_param",
        """
        optional uint32 attention_mask_height = 1;
        optional uint32 attention_mask_width = 2;
        optional float normalization_factor = 3;
        optional bool is_softmax = 4 [default = false];
        enum PSAType { COLLECT = 0; DISTRIBUTE = 1; }
        optional PSAType psa_type = 5 [default = COLLECT];
        """,
    )

    window: Shape
    """Given height and width; none for that which reaches all pixels."""
    factor: float | None
    softmax: bool
    distributes: bool

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        names = ("attention_mask_height", "attention_mask_width")
        window = tuple(getattr(param, name) for name in names if param.HasField(name))
        if len(window) == 1 or any(size < 2 or size % 2 == 0 for size in window):
            raise net_error(
                proto,
                f"{' and '.join(names)} are both given, odd and larger than 1, or neither",
                "pointwise_spatial_attention_param",
            )
        return cls(
            name=proto.name,
            window=window,
            factor=param.normalization_factor if param.HasField("normalization_factor") else None,
            softmax=param.is_softmax,
            distributes=enum_name(param, "psa_type") == "DISTRIBUTE",
        )

    def _window(self, x: Shape) -> Shape:
        return self.window or tuple(2 * size - 1 for size in x[2:])

    def _factor(self, x: Shape) -> float:
        return prod(self._window(x)) if self.factor is None else self.factor

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        x, masks = bottoms
        require_axes(self, x)
        wanted = (x[0], prod(self._window(x)), *x[2:])
        if masks != wanted:
            raise self.net_error(f"masks of shape {masks} do not fit {x}: they need {wanted}")
        return [x]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        t.check(self, inputs)
        x = bottoms[0]
        return t.runtime.spatial_attention(
            *inputs, self._window(x), self._factor(x), self.softmax, self.distributes
        )

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        shape = g.shape(inputs[0])
        _, channels, height, width = shape
        window, pixels = self._window(shape), height * width
        check_constant(pixels**2)
        rows, columns = np.divmod(np.arange(pixels), width)
        down = rows[:, None] - rows + window[0] // 2
        right = columns[:, None] - columns + window[1] // 2
        inside = (down >= 0) & (down < window[0]) & (right >= 0) & (right < window[1])
        at = (down * window[1] + right) * pixels + np.arange(pixels)
        masks = g.op("Reshape", inputs[1], g.const([0, -1], np.int64))
        weights = g.op("Gather", masks, g.const(np.where(inside, at, 0), np.int64), axis=1)
        if not inside.all():
            weights = g.op("Where", g.const(inside, np.bool_), weights, g.const(0.0))
        if self.distributes:
            weights = g.op("Transpose", weights, perm=[0, 2, 1])
        if self.softmax:
            weights = g.op("Softmax", weights, axis=1)
        x = g.op("Reshape", inputs[0], g.const([0, 0, -1], np.int64))
        y = g.op("Div", g.op("MatMul", x, weights), g.const(self._factor(shape)))
        return [g.op("Reshape", y, g.const([-1, channels, height, width], np.int64))]
