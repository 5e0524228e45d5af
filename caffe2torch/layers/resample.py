"""Resample: FlowNet's resizing."""

from __future__ import annotations

from collections.abc import Sequence
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
from caffe2torch.layers._grids import Matrix, apply_onnx, cubic, triangle, weights
from caffe2torch.layers._spatial import require_axes


@register_layer()
class Resample(Layer):
    """y[p] = sum over q of k(place(p) - q) x[q] / sum over q of k(place(p) - q).

    FlowNet: resample_layer.cpp, .cu. Bottom (N, C, H, W), top (N, C, H', W'): the size of the
    second bottom if there is one, else ``height`` and ``width``. ``type`` LINEAR (default): k is
    the triangle 1 - |d|; CUBIC: Keys' kernel with a = -0.5. Kernels are stretched by H / H' and
    W / W' if one of these exceeds 1, unless ``antialias`` is false. NEAREST: x at the place
    rounded half away from 0.

    place = p H / H' + (W / W') / 2 - 0.5 for rows: the shift comes from the other axis's step,
    in the fork's code. A place without pixels gives 0 (NEAREST: refused). ``factor`` is read
    by no code. Errors: a size of 0; type AREA.
    """

    type = "Resample"
    parameters = Parameters(
        "resample_param",
        """
        enum ResampleType { NEAREST = 1; LINEAR = 2; CUBIC = 3; AREA = 4; }
        optional uint32 width = 1;
        optional uint32 height = 2;
        optional ResampleType type = 3 [default = LINEAR];
        optional bool antialias = 4 [default = true];
        optional float factor = 5 [default = 1];
        """,
    )
    bottoms = (1, 2)

    method: str
    size: Shape
    """Given height and width."""
    antialias: bool

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        method = enum_name(param, "type")
        if method == "AREA":
            raise net_error(
                proto, "must be NEAREST, LINEAR or CUBIC, not AREA", "resample_param.type"
            )
        if len(proto.bottom) == 1 and not (param.height and param.width):
            raise net_error(
                proto, "height and width must be given and positive", "resample_param.height"
            )
        size = (param.height, param.width)
        return cls(name=proto.name, method=method, size=size, antialias=param.antialias)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        for shape in bottoms:
            require_axes(self, shape)
        size = bottoms[1][2:] if len(bottoms) > 1 else self.size
        if self.method == "NEAREST":
            for n, places in zip(bottoms[0][2:], _places(bottoms[0][2:], size), strict=True):
                if not (_nearest(places).min() >= 0 and _nearest(places).max() < n):
                    raise self.unsupported(
                        f"NEAREST from {bottoms[0][2:]} to {size} reads outside of the bottom in "
                        "the fork's code, as the two axes are scaled differently",
                        "resample_param.type",
                    )
        return [(*bottoms[0][:2], *size)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        size = inputs[1].shape[2:] if len(inputs) > 1 else self.size
        if self.method == "NEAREST":
            t.check(self, inputs)
            return t.runtime.resample_nearest(inputs[0], size)
        return t.runtime.resample(inputs[0], size, self.method == "CUBIC", self.antialias)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        (top,) = self.infer_shapes([g.shape(x) for x in inputs])
        before, after = g.shape(inputs[0])[2:], top[2:]
        if self.method == "NEAREST":
            y = inputs[0]
            for axis, places in enumerate(_places(before, after), 2):
                y = g.op("Gather", y, g.const(_nearest(places), np.int64), axis=axis)
            return [y]
        steps = [n / out for n, out in zip(before, after, strict=True)]
        wide = self.antialias and max(steps) > 1
        kernel = cubic if self.method == "CUBIC" else triangle
        matrices = []
        for n, places, step in zip(before, _places(before, after), steps, strict=True):
            shares = weights(n, places, step if wide else 1.0, kernel)
            total = shares.sum(1, keepdims=True)
            matrices.append(shares / np.where(total == 0, 1, total) * (total != 0))
        return [apply_onnx(g, inputs[0], *matrices)]


def _places(sizes: Sequence[int], outputs: Sequence[int]) -> list[Matrix]:
    """Where each pixel of the top is read, by rows and by columns."""
    steps = [n / out for n, out in zip(sizes, outputs, strict=True)]
    return [
        np.arange(out, dtype=np.float64) * step + other / 2 - 0.5
        for out, step, other in zip(outputs, steps, steps[::-1], strict=True)
    ]


def _nearest(places: Matrix) -> Matrix:
    """Rounded half away from 0."""
    return np.asarray(np.trunc(places + np.copysign(0.5, places)))
