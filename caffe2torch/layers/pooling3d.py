"""Pooling3D: C3D's pooling over time, rows and columns."""

from __future__ import annotations

from collections.abc import Sequence

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import TEXT_ONLY, Layer, Parameters, net_error, register_layer, unsupported
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

    C3D 1.1 has the fields in ``pooling3d_param``, 1.0 (POOLING3D) in ``pooling_param``. With
    ``kernel_l`` or ``global_pooling`` it is Pseudo-3D's layer (pooling3d_layer.cpp), which has
    ``_l``, ``_h`` and ``_w`` of kernel, stride and pad, and pads and drops windows as Pooling does.
    Defaults: MAX, strides 1, pad 0. Errors: no kernel_size or kernel_depth, a zero stride, pad
    of C3D's with another method than AVE, not five axes, an empty top. STOCHASTIC is refused.
    """

    type = "Pooling3D"
    parameters = Parameters(
        ("pooling3d_param", "pooling_param"),
        f"""
        enum PoolMethod {{ MAX = 0; AVE = 1; STOCHASTIC = 2; }}
        enum Engine {{ DEFAULT = 0; CAFFE = 1; CUDNN = 2; }}
        optional PoolMethod pool = 1 [default = MAX];
        optional uint32 kernel_size = 2;
        optional uint32 stride = 3 [default = 1];
        optional uint32 pad = 4 [default = 0];
        optional uint32 kernel_depth = 5;
        optional uint32 temporal_stride = 6 [default = 1];
        optional uint32 kernel_l = {TEXT_ONLY};
        optional uint32 kernel_h = {TEXT_ONLY + 1};
        optional uint32 kernel_w = {TEXT_ONLY + 2};
        optional uint32 stride_l = {TEXT_ONLY + 3} [default = 1];
        optional uint32 stride_h = {TEXT_ONLY + 4};
        optional uint32 stride_w = {TEXT_ONLY + 5};
        optional uint32 pad_l = {TEXT_ONLY + 6} [default = 0];
        optional uint32 pad_h = {TEXT_ONLY + 7};
        optional uint32 pad_w = {TEXT_ONLY + 8};
        optional bool global_pooling = {TEXT_ONLY + 9} [default = false];
        optional Engine engine = {TEXT_ONLY + 10} [default = DEFAULT];
        """,
    )

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        method = enum_name(param, "pool")
        if method == "STOCHASTIC":
            raise unsupported(proto, "STOCHASTIC has no code for the CPU in the fork", "pool")
        if param.HasField("kernel_l") or param.global_pooling:
            return cls(name=proto.name, method=method, window=_of_pseudo_3d(proto, param))
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
        whole = PoolWindow(tuple(sizes), (1,) * len(sizes), (0,) * len(sizes))
        return self.window or whole

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        require_axes(self, bottoms[0], 5)
        return super().infer_shapes(bottoms)


def _of_pseudo_3d(proto: Message, param: Message) -> PoolWindow | None:
    """Pseudo-3D's window; None for ``global_pooling``."""
    kernel = _axes(proto, param, "kernel_size", "kernel")
    stride = _axes(proto, param, "stride", "stride")
    pad = _axes(proto, param, "pad", "pad")
    if param.global_pooling:
        if any(kernel[1:]) or any(pad) or stride != (1, 1, 1):
            raise net_error(
                proto, "takes no kernel, a stride of 1 and a pad of 0", "global_pooling"
            )
        return None
    if not all(kernel) or not all(stride):
        raise net_error(proto, f"kernel {kernel} and stride {stride} must be positive", "kernel_l")
    if any(p >= k for p, k in zip(pad, kernel, strict=True)):
        raise net_error(proto, f"pad {pad} must be less than the kernel {kernel}", "pad")
    return PoolWindow(kernel, stride, pad)


def _axes(proto: Message, param: Message, both: str, field: str) -> Shape:
    """The values of ``field`` for time, rows and columns; the last two may be one, ``both``."""
    pair = [f"{field}_{axis}" for axis in "hw"]
    given = [name for name in pair if param.HasField(name)]
    if given and (param.HasField(both) or len(given) == 1):
        raise net_error(proto, f"give either {both} or both {pair[0]} and {pair[1]}", both)
    rest = (getattr(param, name if given else both) for name in pair)
    return (getattr(param, f"{field}_l"), *rest)
