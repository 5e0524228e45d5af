"""NdPooling: pooling over any number of axes, as forks for videos write it."""

from __future__ import annotations

from collections.abc import Sequence

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_name
from caffe2torch.layers import TEXT_ONLY, Layer, Parameters, net_error, register_layer, unsupported
from caffe2torch.layers._pooling import PoolWindow
from caffe2torch.layers._volumes import VolumePooling


@register_layer()
class NdPooling(VolumePooling):
    """The maximum or mean in windows ``kernel_shape``, ``stride_shape``, ``pad_shape``.

    video-caffe: cudnn_ndpooling_layer.cpp. Each is a BlobShape with a value for every axis after
    the channels; strides default to 1, pads to 0. The sizes are those of Pooling: rounded up,
    less a last window beyond the padded image. ``global_pooling`` takes all axes whole.

    Errors: no kernel_shape; wrong counts; a field of Caffe's window beside it; an empty top.
    cuDNN's windows without pixels, and its means of windows that reach beyond the image, are not
    Caffe's: a stride larger than the kernel is refused, and AVE with such windows. STOCHASTIC is
    refused.
    """

    type = "NdPooling"
    parameters = Parameters(
        "pooling_param",
        f"""
        optional BlobShape kernel_shape = {TEXT_ONLY};
        optional BlobShape stride_shape = {TEXT_ONLY + 1};
        optional BlobShape pad_shape = {TEXT_ONLY + 2};
        """,
    )

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param, own = proto.pooling_param, cls.parameters.of(proto)
        method = enum_name(param, "pool")
        if method == "STOCHASTIC":
            raise unsupported(proto, "STOCHASTIC has no code in the fork", "pool")
        for prefix in ("kernel", "stride", "pad"):
            for name in (f"{prefix}_h", f"{prefix}_w", prefix + "_size" * (prefix == "kernel")):
                if param.HasField(name):
                    raise net_error(proto, f"give {prefix}_shape instead", f"pooling_param.{name}")
        if param.global_pooling:
            if any(own.pad_shape.dim):
                raise net_error(proto, "must be 0 with global_pooling", "pooling_param.pad_shape")
            return cls(name=proto.name, method=method, window=None)
        kernel = tuple(own.kernel_shape.dim)
        stride = tuple(own.stride_shape.dim) or (1,) * len(kernel)
        pad = tuple(own.pad_shape.dim) or (0,) * len(kernel)
        if not 1 <= len(kernel) <= 3 or not len(kernel) == len(stride) == len(pad):
            raise net_error(
                proto,
                f"kernel {kernel}, stride {stride} and pad {pad} need as many values, one to three",
                "pooling_param.kernel_shape",
            )
        if min(*kernel, *stride) < 1:
            raise net_error(proto, "must be positive", "pooling_param.kernel_shape")
        if any(s > k for s, k in zip(stride, kernel, strict=True)):
            raise unsupported(
                proto, f"{stride} leaves pixels out of {kernel}", "pooling_param.stride_shape"
            )
        if any(p >= k for p, k in zip(pad, kernel, strict=True)):
            raise net_error(
                proto, f"{pad} must be smaller than {kernel}", "pooling_param.pad_shape"
            )
        return cls(name=proto.name, method=method, window=PoolWindow(kernel, stride, pad))

    def window_on(self, sizes: Sequence[int]) -> PoolWindow:
        ones = (1,) * len(sizes)
        return self.window or PoolWindow(tuple(sizes), ones, (0,) * len(sizes))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        sizes = bottoms[0][2:]
        window = self.window_on(sizes)
        if len(sizes) != len(window.kernel) or not sizes:
            raise self.net_error(
                f"a kernel of {len(window.kernel)} axes for a bottom of shape {bottoms[0]}",
                "pooling_param.kernel_shape",
            )
        beyond = [after > p for after, p in zip(window.end_pad(sizes), window.pad, strict=True)]
        if self.method == "AVE" and (any(window.pad) or any(beyond)):
            raise self.unsupported(
                "cuDNN's mean of a window that reaches beyond the image is not Caffe's",
                "pooling_param.pool",
            )
        return super().infer_shapes(bottoms)
