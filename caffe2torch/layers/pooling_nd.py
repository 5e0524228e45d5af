"""PoolingND: pooling over any number of axes, as forks for volumes write it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_name
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
from caffe2torch.layers._pooling import LOWEST
from caffe2torch.layers._spatial import Window, require_positive, resolve_window


@register_layer("PoolingND", "PoolingSK")
class PoolingND(Layer):
    """y[p] = max over k of x[stride * p + kstride * k - pad], on one to three axes.

    The fork of caffe_neural_tool: pooling_nd_layer.cpp, .cu; PoolingSK is its form for two axes.
    Bottom (N, C, *spatial); top sizes (size + 2 pad - extent) / stride + 1, rounded up, with the
    extent kstride (kernel - 1) + 1: no window is dropped. Padding never is the maximum; a window
    without pixels gives -FLT_MAX.

    kernel_size, stride, pad and kstride are given once, or once an axis, or for two axes as
    ``_h`` and ``_w``. Defaults: MAX, stride 1, pad 0, kstride 1. Errors: no kernel, wrong counts,
    an empty top. AVE and STOCHASTIC, a mask and global_pooling are refused.
    """

    type = "PoolingND"
    parameters = Parameters(
        ("pooling_nd_param", "pooling_param"),
        f"""
        enum PoolMethod {{ MAX = 0; AVE = 1; STOCHASTIC = 2; }}
        enum Engine {{ DEFAULT = 0; CAFFE = 1; CUDNN = 2; }}
        optional PoolMethod pool = 1 [default = MAX];
        repeated uint32 kernel_size = 2;
        repeated uint32 stride = 3;
        repeated uint32 pad = 4;
        optional uint32 kernel_h = 5;
        optional uint32 kernel_w = 6;
        optional uint32 stride_h = 7;
        optional uint32 stride_w = 8;
        optional uint32 pad_h = 9;
        optional uint32 pad_w = 10;
        optional Engine engine = 11 [default = DEFAULT];
        optional bool global_pooling = 12 [default = false];
        optional int32 axis = {TEXT_ONLY} [default = 1];
        repeated uint32 kstride = {TEXT_ONLY + 1};
        optional uint32 kstride_h = {TEXT_ONLY + 2};
        optional uint32 kstride_w = {TEXT_ONLY + 3};
        """,
    )

    window: Window

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        if enum_name(param, "pool") != "MAX" or param.global_pooling or param.axis != 1:
            raise unsupported(
                proto, "only MAX pooling of windows after axis 1 is implemented", "pooling_param"
            )
        window = Window(
            kernel=_values(param, "kernel_size", "kernel"),
            stride=_values(param, "stride", "stride"),
            pad=_values(param, "pad", "pad"),
            dilation=_values(param, "kstride", "kstride"),
        )
        if not window.kernel:
            raise net_error(proto, "must be given", "pooling_param.kernel_size")
        return cls(name=proto.name, window=window)

    def _resolved(self, shape: Shape) -> Window:
        if not 3 <= len(shape) <= 5:
            raise self.net_error(f"a bottom of shape {shape} has not one to three spatial axes")
        return resolve_window(self, self.window, len(shape) - 2)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (shape,) = bottoms
        window = self._resolved(shape)
        axes = zip(shape[2:], window.pad, window.extent, window.stride, strict=True)
        sizes = [-(-(n + 2 * p - e) // s) + 1 for n, p, e, s in axes]
        require_positive(self, sizes, shape)
        return [(*shape[:2], *sizes)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        w = self._resolved(bottoms[0])
        run = t.runtime.max_pool_volume
        return run(inputs[0], w.kernel, w.stride, w.pad, False, w.dilation)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        shape = g.shape(inputs[0])
        (top,), window = self.infer_shapes([shape]), self._resolved(shape)
        axes = zip(top[2:], shape[2:], window.extent, window.stride, window.pad, strict=True)
        after = [(o - 1) * s + e - n - p for o, n, e, s, p in axes]
        amounts = g.const([0, 0, *window.pad, 0, 0, *after], np.int64)
        x = g.op("Pad", inputs[0], amounts, g.const(LOWEST))
        kernel, strides, dilations = map(list, (window.kernel, window.stride, window.dilation))
        return [g.op("MaxPool", x, kernel_shape=kernel, strides=strides, dilations=dilations)]


def _values(param: Message, field: str, pair: str) -> Shape:
    """The values of a field: written once or once an axis, or as a pair."""
    names = (f"{pair}_h", f"{pair}_w")
    if not any(param.HasField(name) for name in names):
        return tuple(getattr(param, field))
    return tuple(int(getattr(param, name)) for name in names)
