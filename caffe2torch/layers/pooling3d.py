"""Pooling3D: C3D's pooling over time, rows and columns."""

from __future__ import annotations

from collections.abc import Sequence

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import Layer, Parameters, net_error, register_layer, unsupported
from caffe2torch.layers._pooling import PoolWindow
from caffe2torch.layers._spatial import require_axes
from caffe2torch.layers._volumes import VolumePooling


@register_layer()
class Pooling3D(VolumePooling):
    """The maximum or mean in windows of kernel_depth, then kernel_size twice (pool3d_layer.cpp).

    C3D. Bottom (N, C, L, H, W), top (N, C, L', H', W') with L' = (L - kernel_depth) /
    temporal_stride + 1 and H' = (H + 2 pad - kernel_size) / stride + 1, rounded up; unlike in
    Pooling, no window is dropped, padded or not. AVE counts the padding as zeros and divides by the
    window's size, clipped to the padded image. Windows without pixels give -FLT_MAX for MAX.

    C3D 1.1 has the fields in ``pooling3d_param``, 1.0 (POOLING3D) in ``pooling_param``.
    Defaults: MAX, strides 1, pad 0. Errors: no kernel_size or kernel_depth, a zero stride, pad
    with another method than AVE, not five axes, an empty top. STOCHASTIC is refused.
    """

    type = "Pooling3D"
    parameters = Parameters(
        ("pooling3d_param", "pooling_param"),
        """
        enum PoolMethod { MAX = 0; AVE = 1; STOCHASTIC = 2; }
        optional PoolMethod pool = 1 [default = MAX];
        optional uint32 kernel_size = 2;
        optional uint32 stride = 3 [default = 1];
        optional uint32 pad = 4 [default = 0];
        optional uint32 kernel_depth = 5;
        optional uint32 temporal_stride = 6 [default = 1];
        """,
    )

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        method = enum_name(param, "pool")
        if method == "STOCHASTIC":
            raise unsupported(proto, "STOCHASTIC has no code for the CPU in the fork", "pool")
        for name in ("kernel_size", "kernel_depth", "stride", "temporal_stride"):
            if not getattr(param, name):
                raise net_error(proto, "must be given and positive", name)
        if param.pad and method != "AVE":
            raise net_error(proto, f"{method} pooling cannot be padded", "pad")
        window = PoolWindow(
            kernel=(param.kernel_depth, param.kernel_size, param.kernel_size),
            stride=(param.temporal_stride, param.stride, param.stride),
            pad=(0, param.pad, param.pad),
            drops=False,
        )
        return cls(name=proto.name, method=method, window=window)

    def window_on(self, sizes: Sequence[int]) -> PoolWindow:
        assert self.window is not None
        return self.window

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        require_axes(self, bottoms[0], 5)
        return super().infer_shapes(bottoms)
