"""Pooling over two spatial axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message, enum_name, enum_value
from caffe2torch.layers import (
    TEXT_ONLY,
    Layer,
    OnnxBuilder,
    Parameters,
    Reads,
    TorchBuilder,
    net_error,
    register_layer,
    unsupported,
)
from caffe2torch.layers import _pooling as pooling
from caffe2torch.layers._grid import Grid, of_windows
from caffe2torch.layers._pooling import PoolWindow
from caffe2torch.layers._spatial import Window, require_axes, require_positive
from caffe2torch.layers.pooling_nd import PoolingND


@register_layer()
class Pooling(Layer):
    """y[p] = max, mean or expectation over k of x[stride * p + k - pad] (Caffe: pooling_layer.cpp).

    Bottom (N, C, H, W), top (N, C, H', W') with ``H' = (H + 2 pad - kernel) / stride + 1``,
    rounded up (``round_mode: FLOOR`` or a fork's ``ceil_mode: false``: down). If either axis
    is padded, a last window that starts beyond the image and its first padding is dropped.

    MAX ignores padding. It may have a second top with the index ``h * W + w`` of each
    maximum, the first of equal ones. Values that are not above -FLT_MAX, as NaN, do not count;
    a window without one that does gives -FLT_MAX and -1. AVE
    counts the padding as zeros and divides by the window's size, clipped to the padded
    image. STOCHASTIC is sum(x^2) / sum(x), or 0 if that sum is not positive, as Caffe
    computes it in the TEST phase; in the TRAIN phase it draws at random and is refused.

    Defaults: MAX, stride 1, pad 0. ``global_pooling`` takes the whole image as kernel.
    Errors: not four axes; no kernel or more than one form; only one of a ``_h``, ``_w`` pair;
    a zero kernel or stride; pad not smaller than the kernel; pad with STOCHASTIC; a kernel,
    pad or stride with ``global_pooling``; a mask of AVE or STOCHASTIC.

    Forks (naibaf7's, R-C3D's; pooling_layer.cpp of both) pool on three axes as well: with
    kernel_size, stride or pad written once an axis, of (N, C, L, H, W), or a ``dilation`` above
    1, it is PoolingND with its restrictions, and pad must be 0.
    """

    type = "Pooling"
    reads = Reads(slice(0), slice(1, None))
    parameters = Parameters(
        "pooling_param",
        f"""
        repeated uint32 kernel_size = 2;
        repeated uint32 stride = 3;
        repeated uint32 pad = 4;
        optional bool ceil_mode = {TEXT_ONLY} [default = true];
        repeated uint32 dilation = {TEXT_ONLY + 1};
        """,
    )
    tops: ClassVar[tuple[int, int | None]] = (1, 2)

    method: str
    window: PoolWindow | None
    """None: the whole image."""
    num_tops: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param, more = proto.pooling_param, cls.parameters.of(proto)
        if any(len(getattr(more, name)) for name in ("kernel_size", "stride", "pad")) or any(
            step != 1 for step in more.dilation
        ):
            return _of_volumes(proto, more)
        method = enum_name(param, "pool")
        if method != "MAX" and len(proto.top) > 1:
            raise net_error(proto, f"{method} has no mask for a second top", "pool")
        if method == "STOCHASTIC" and proto.phase == enum_value("Phase", "TRAIN"):
            raise unsupported(proto, "STOCHASTIC draws at random in the TRAIN phase", "pool")
        window = _window(proto, param)
        return cls(name=proto.name, method=method, window=window, num_tops=len(proto.top))

    def window_on(self, sizes: Sequence[int]) -> PoolWindow:
        """The window on an image of these sizes."""
        return self.window or PoolWindow(tuple(sizes), (1, 1), (0, 0))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (shape,) = bottoms
        require_axes(self, shape)
        sizes = self.window_on(shape[2:]).output_sizes(shape[2:])
        require_positive(self, sizes, shape)
        return [(*shape[:2], *sizes)] * self.num_tops

    def grid(self) -> Grid | None:
        w = self.window
        return None if w is None else of_windows(w.kernel, w.stride, w.pad)

    def keeps_finite(self, bottoms: Sequence[Shape]) -> bool:
        # A window without pixels: 0 / 0, or -FLT_MAX, which sums overflow.
        return self.window is None or self.window.is_native()

    def torch_module(self, t: TorchBuilder, bottoms: Sequence[Shape]) -> Any:
        if not self.has_module():
            return None
        name, w = {"MAX": "Max", "AVE": "Avg"}[self.method], self.window
        if w is None:
            return getattr(t.nn, f"Adaptive{name}Pool2d")(1)
        pool = getattr(t.nn, f"{name}Pool2d")
        return pool(w.kernel, stride=w.stride, padding=w.pad, ceil_mode=w.ceil)

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        (x,), w = inputs, self.window
        if self.has_module():
            return t.module(t.runtime.comparable(x) if self._compares_non_finite() else x)
        window = (x.shape[2:], (1, 1)) if w is None else (w.kernel, w.stride, w.pad, w.ceil)
        if self.method == "MAX":
            tops = t.runtime.max_pool(x, *window)
            return tops if self.num_tops > 1 else tops[0]
        name = {"AVE": "average_pool", "STOCHASTIC": "stochastic_pool"}[self.method]
        return getattr(t.runtime, name)(x, *window)

    def _compares_non_finite(self) -> bool:
        return self.method == "MAX" and self.non_finite

    def has_module(self) -> bool:
        """Whether torch's own module computes the layer."""
        is_native = self.window is None or self.window.is_native()
        return self.num_tops == 1 and self.method != "STOCHASTIC" and is_native

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        (x,) = inputs
        sizes = g.shape(x)[2:]
        window = self.window_on(sizes)
        if self._compares_non_finite():
            x = pooling.comparable_onnx(g, x)
        if self.num_tops > 1:
            return pooling.max_pool_mask_onnx(g, x, window, sizes)
        if self.method == "STOCHASTIC":
            return [pooling.stochastic_pool_onnx(g, x, window, sizes)]
        if self.window is None:
            return [g.op("GlobalMaxPool" if self.method == "MAX" else "GlobalAveragePool", x)]
        if self.method == "MAX":
            return [pooling.max_pool_onnx(g, x, window, sizes)]
        return [pooling.average_pool_onnx(g, x, window, sizes)]


def _window(proto: Message, param: Message) -> PoolWindow | None:
    stride, pad = _pair(proto, param, "stride"), _pair(proto, param, "pad")
    if param.global_pooling:
        if any(param.HasField(f) for f in ("kernel_size", "kernel_h", "kernel_w")):
            raise net_error(proto, "a kernel is given although it is the image", "global_pooling")
        if stride != (1, 1) or pad != (0, 0):
            raise net_error(proto, "stride must be 1 and pad 0", "global_pooling")
        return None
    kernel = _kernel(proto, param)
    if 0 in kernel or 0 in stride:
        raise net_error(proto, f"kernel {kernel} and stride {stride} must not be zero")
    if any(pad) and enum_name(param, "pool") == "STOCHASTIC":
        raise net_error(proto, "STOCHASTIC pooling cannot be padded", "pad")
    if any(pad) and any(p >= k for p, k in zip(pad, kernel, strict=True)):
        raise net_error(proto, f"pad {pad} must be smaller than the kernel {kernel}", "pad")
    ceil = enum_name(param, "round_mode") == "CEIL" and Pooling.parameters.of(proto).ceil_mode
    return PoolWindow(kernel, stride, pad, ceil)


def _of_volumes(proto: Message, more: Message) -> Layer:
    """The PoolingND of a layer with ``more`` values than Caffe's pooling has."""
    param = proto.pooling_param
    if enum_name(param, "pool") != "MAX" or param.global_pooling or len(proto.top) > 1:
        raise unsupported(
            proto, "on three axes, and with dilation, only MAX without a mask is known", "pool"
        )
    if param.pad or any(more.pad) or param.pad_h or param.pad_w:
        raise unsupported(
            proto, "on three axes, and with dilation, it must be 0", "pooling_param.pad"
        )
    sizes = []
    for name, default in (("kernel_size", None), ("stride", 1)):
        first = (getattr(param, name),) if param.HasField(name) else ()
        sizes.append((*first, *getattr(more, name)) or (default,))
    kernel, stride = sizes
    if param.HasField("kernel_h") or param.HasField("stride_h"):
        raise unsupported(proto, "write kernel_size and stride once an axis instead", "kernel_h")
    # In a binary the second value would be that of both axes, and nothing tell of it.
    if any(len(pair) == 2 and len(set(pair)) == 2 for pair in (kernel, stride, more.dilation)):
        raise unsupported(
            proto, "two different values; write kernel_h and kernel_w instead", "kernel_size"
        )
    if None in kernel or 0 in (*kernel, *stride, *more.dilation):
        raise net_error(proto, "must be given and positive", "pooling_param.kernel_size")
    dilation = tuple(more.dilation) or (1,)
    return PoolingND(proto.name, Window(kernel, stride, (0,), dilation))


def _kernel(proto: Message, param: Message) -> Shape:
    both = param.HasField("kernel_h") and param.HasField("kernel_w")
    if param.HasField("kernel_size") == both:
        raise net_error(
            proto, "give either kernel_size or both kernel_h and kernel_w", "kernel_size"
        )
    return (param.kernel_h, param.kernel_w) if both else (param.kernel_size,) * 2


def _pair(proto: Message, param: Message, field: str) -> Shape:
    given = [param.HasField(name) for name in (f"{field}_h", f"{field}_w")]
    if not any(given):
        return (getattr(param, field),) * 2
    if not all(given) or param.HasField(field):
        raise net_error(proto, f"give either {field} or both {field}_h and {field}_w", field)
    return getattr(param, f"{field}_h"), getattr(param, f"{field}_w")
