"""DeformableConvolution: a convolution whose taps read where a second bottom says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    BlobSpec,
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
    unsupported,
)
from caffe2torch.layers._spatial import (
    Window,
    require_axes,
    resolve_window,
    window_from_proto,
)


@register_layer()
class DeformableConvolution(Layer):
    """y[p] = sum over taps k of w[k] x(p stride - pad + k dilation + offset[k, p]), and a bias.

    Fork: unsky/Deformable-ConvNets-caffe, deformable_conv_layer.cu, which has no code for a CPU.
    Bottoms: x (N, C, H, W); offsets (N, 2 K G, H, W) with G ``deformable_group`` (default 4), K the
    number of taps: for each of G groups of channels and each tap, its rows and its columns. x is
    read by bilinear interpolation, within its last row and column by theirs alone; places outside
    of 0 <= row < H, 0 <= column < W read 0. Other parameters, blobs and their defaults are
    Convolution's. Errors: offsets of another shape; channels that no group divides; a top that is
    not as large as x, where the fork reads other offsets; another ``axis``.
    """

    type = "DeformableConvolution"
    bottoms = (2, 2)
    parameters = Parameters(
        "deformable_convolution_param",
        """
        enum Engine { DEFAULT = 0; CAFFE = 1; CUDNN = 2; }
        optional uint32 num_output = 1;
        optional bool bias_term = 2 [default = true];
        repeated uint32 pad = 3;
        repeated uint32 kernel_size = 4;
        optional uint32 group = 5 [default = 1];
        repeated uint32 stride = 6;
        optional FillerParameter weight_filler = 7;
        optional FillerParameter bias_filler = 8;
        optional uint32 pad_h = 9;
        optional uint32 pad_w = 10;
        optional uint32 kernel_h = 11;
        optional uint32 kernel_w = 12;
        optional uint32 stride_h = 13;
        optional uint32 stride_w = 14;
        optional Engine engine = 15;
        optional int32 axis = 16 [default = 1];
        optional bool force_nd_im2col = 17 [default = false];
        repeated uint32 dilation = 18;
        optional uint32 deformable_group = 19 [default = 4];
        """,
    )

    num_output: int
    bias_term: bool
    group: int
    deformable_group: int
    window: Window
    weight_filler: Message = field(repr=False)
    bias_filler: Message = field(repr=False)
    weight_filler_given: bool = field(repr=False)

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = cls.parameters.of(proto)
        name = cls.parameters.fields[0]
        for count in ("num_output", "group", "deformable_group"):
            if getattr(param, count) < 1:
                raise net_error(proto, "it must be given and positive", f"{name}.{count}")
        if param.num_output % param.group:
            raise net_error(
                proto,
                f"num_output {param.num_output} is not divisible by group {param.group}",
                f"{name}.group",
            )
        if param.axis not in (1, -3):
            raise unsupported(proto, "channels on another axis than 1", f"{name}.axis")
        return cls(
            name=proto.name,
            num_output=param.num_output,
            bias_term=param.bias_term,
            group=param.group,
            deformable_group=param.deformable_group,
            window=window_from_proto(proto, param),
            weight_filler=param.weight_filler,
            bias_filler=param.bias_filler,
            weight_filler_given=param.HasField("weight_filler"),
        )

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        x, offset = bottoms
        require_axes(self, x)
        window = self._window()
        for count in ("group", "deformable_group"):
            if x[1] % getattr(self, count):
                raise self.net_error(
                    f"the bottom's {x[1]} channels are not divisible by {getattr(self, count)}",
                    count,
                )
        wanted = (x[0], 2 * self._taps() * self.deformable_group, *x[2:])
        if tuple(offset) != wanted:
            raise self.net_error(f"offsets of shape {offset} should have the shape {wanted}")
        edges = zip(x[2:], window.pad, window.extent, window.stride, strict=True)
        sizes = tuple((n + 2 * pad - extent) // stride + 1 for n, pad, extent, stride in edges)
        if sizes != tuple(x[2:]):
            raise self.unsupported(
                f"a top of the size {sizes} for a bottom of {tuple(x[2:])}: the fork reads the "
                "offsets of other places then",
                "stride",
            )
        return [(x[0], self.num_output, *x[2:])]

    def blob_specs(self, bottoms: Sequence[Shape]) -> Sequence[BlobSpec]:
        shape = (self.num_output, bottoms[0][1] // self.group, *self._window().kernel)
        weight = BlobSpec("weight", shape, self.weight_filler, self.weight_filler_given)
        if not self.bias_term:
            return [weight]
        return [weight, BlobSpec("bias", (self.num_output,), self.bias_filler, True)]

    def _window(self) -> Window:
        return resolve_window(self, self.window, 2)

    def _taps(self) -> int:
        kernel = self._window().kernel
        return kernel[0] * kernel[1]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        t.check(self, inputs)
        window = self._window()
        bias = t.params.bias if self.bias_term else None
        return t.runtime.deformable_convolution(
            *inputs,
            t.params.weight,
            bias,
            window.stride,
            window.pad,
            window.dilation,
            self.group,
        )

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        _, channels, *sizes = g.shape(inputs[0])
        taps, pixels = self._taps(), sizes[0] * sizes[1]
        per_group = channels // self.deformable_group
        x = g.op("Reshape", inputs[0], g.const([-1, per_group, pixels], np.int64))
        offset = g.op("Reshape", inputs[1], g.const([-1, taps, 2, pixels], np.int64))
        lows, shares, insides = [], [], []
        for axis, places in enumerate(self._places(sizes)):
            moved = g.op("Gather", offset, g.const(axis, np.int64), axis=2)
            place = g.op("Add", moved, g.const(places))
            insides.append(g.op("GreaterOrEqual", place, g.const(0)))
            insides.append(g.op("Less", place, g.const(sizes[axis])))
            lows.append(place)
        inside = insides[0]
        for other in insides[1:]:
            inside = g.op("And", inside, other)
        for axis, place in enumerate(lows):
            place = g.op("Where", inside, place, g.const(0))
            lows[axis] = g.op("Floor", place)
            shares.append(g.op("Sub", place, lows[axis]))
        flat = g.const([-1, 1, taps * pixels], np.int64)
        total = ""
        for corner in range(4):
            at, share = "", ""
            for axis, high in enumerate((corner // 2, corner % 2)):
                low = g.op("Cast", lows[axis], to=7)
                if high:
                    low = g.op("Add", low, g.const(1, np.int64))
                    low = g.op("Min", low, g.const(sizes[axis] - 1, np.int64))
                part = shares[axis] if high else g.op("Sub", g.const(1), shares[axis])
                share = g.op("Mul", share, part) if share else part
                at = g.op("Add", g.op("Mul", at, g.const(sizes[1], np.int64)), low) if at else low
            at = g.op("Expand", g.op("Reshape", at, flat), g.const([1, per_group, 1], np.int64))
            read = g.op("GatherElements", x, at, axis=2)
            read = g.op("Mul", read, g.op("Reshape", share, flat))
            total = g.op("Add", total, read) if total else read
        total = g.op("Where", g.op("Reshape", inside, flat), total, g.const(0))
        column = channels // self.group * taps
        table = g.op("Reshape", total, g.const([-1, self.group, column, pixels], np.int64))
        rows = [self.group, self.num_output // self.group, column]
        weight = g.op("Reshape", g.params["weight"], g.const(rows, np.int64))
        y = g.op("MatMul", weight, table)
        y = g.op("Reshape", y, g.const([-1, self.num_output, *sizes], np.int64))
        if not self.bias_term:
            return [y]
        bias = g.op("Reshape", g.params["bias"], g.const([-1, 1, 1], np.int64))
        return [g.op("Add", y, bias)]

    def _places(self, sizes: Sequence[int]) -> np.ndarray[Any, Any]:
        """The rows and the columns, (2, K, H W), that the taps read where offsets are 0."""
        window = self._window()
        taps = np.indices(window.kernel).reshape(2, -1, 1)
        tops = np.indices(tuple(sizes)).reshape(2, 1, -1)
        stride, pad, dilation = (
            np.array(v).reshape(2, 1, 1) for v in (window.stride, window.pad, window.dilation)
        )
        return np.asarray(tops * stride - pad + taps * dilation, np.float64)
