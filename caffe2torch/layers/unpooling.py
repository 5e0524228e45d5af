"""Unpooling: each value to the place where pooling found it, zeros elsewhere."""

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
    unsupported,
)
from caffe2torch.layers._onnx import check_constant, to_int
from caffe2torch.layers._spatial import require_axes


@register_layer()
class Unpooling(Layer):
    """y[mask[p]] = x[p], or without a mask y[p * stride] = x[p]; 0 elsewhere.

    Fork: HyeonwooNoh/caffe of DeconvNet, unpooling_layer.cpp. Bottoms x (N, C, H, W) and, if
    there are two, the mask of a Pooling layer with the same shape. The top has the height and
    width ``unpool_size``, or ``unpool_h`` and ``unpool_w``. Places beyond it, of a window
    without a mask, move to its last row or column, where the last value stays.

    Errors: no size or kernel, or both forms of one; any pad; a mask of another shape. The
    methods AVE and TILE are refused: the fork adds to what the top held before.
    """

    type = "Unpooling"
    bottoms = (1, 2)
    parameters = Parameters(
        "unpooling_param",
        """
        enum UnpoolMethod { MAX = 0; AVE = 1; TILE = 2; }
        enum Engine { DEFAULT = 0; CAFFE = 1; }
        optional UnpoolMethod unpool = 1 [default = MAX];
        optional uint32 kernel_size = 2;
        optional uint32 stride = 3 [default = 1];
        optional uint32 pad = 4 [default = 0];
        optional uint32 kernel_h = 5;
        optional uint32 kernel_w = 6;
        optional uint32 stride_h = 7;
        optional uint32 stride_w = 8;
        optional uint32 pad_h = 9 [default = 0];
        optional uint32 pad_w = 10 [default = 0];
        optional Engine engine = 11 [default = DEFAULT];
        optional uint32 unpool_size = 12;
        optional uint32 unpool_h = 13;
        optional uint32 unpool_w = 14;
        """,
    )

    size: Shape
    """Height and width of the top."""
    stride: Shape

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = cls.parameters.of(proto)
        if enum_name(p, "unpool") != "MAX":
            raise unsupported(
                proto,
                f"{enum_name(p, 'unpool')} adds to what the top held in the pass before",
                "unpooling_param.unpool",
            )
        if not all(_pair(proto, p, "kernel_size", "kernel")):
            raise net_error(proto, "it must be positive", "unpooling_param.kernel_size")
        if p.pad or p.pad_h or p.pad_w:
            raise net_error(proto, "the fork allows no padding", "unpooling_param.pad")
        size = _pair(proto, p, "unpool_size", "unpool")
        if not all(size):
            raise net_error(proto, "it must be positive", "unpooling_param.unpool_size")
        return cls(name=proto.name, size=size, stride=_pair(proto, p, "stride", "stride"))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        require_axes(self, bottoms[0])
        if bottoms[1:] and bottoms[1] != bottoms[0]:
            raise self.net_error(f"bottom {bottoms[0]} and mask {bottoms[1]} differ in shape")
        return [(*bottoms[0][:2], *self.size)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        if len(inputs) > 1:
            return t.runtime.unpool(*inputs, self.size)
        return t.runtime.spread(inputs[0], self.stride, self.size)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        x, (height, width) = inputs[0], self.size
        flat = g.const([0, 0, -1], np.int64)
        if len(inputs) > 1:
            index = to_int(g, g.op("Reshape", inputs[1], flat))
            values = g.op("Reshape", x, flat)
        else:
            places, kept = self._places(g.shape(x)[2:])
            check_constant(len(places))
            values = g.op("Gather", g.op("Reshape", x, flat), g.const(kept, np.int64), axis=2)
            index = g.op("Expand", g.const(places, np.int64), g.op("Shape", values))
        size = g.op("Concat", g.op("Shape", x, end=2), g.const([height * width], np.int64), axis=0)
        y = g.op("ScatterElements", g.op("Expand", g.const(0.0), size), index, values, axis=2)
        return [g.op("Reshape", y, g.const([0, 0, height, width], np.int64))]

    def _places(self, sizes: Sequence[int]) -> tuple[list[int], list[int]]:
        """Where values go, each place once, and the values that stay there, by their indices."""
        rows, columns = (
            np.minimum(np.arange(n) * step, last - 1)
            for n, step, last in zip(sizes, self.stride, self.size, strict=True)
        )
        places = (rows[:, None] * self.size[1] + columns).ravel().tolist()
        last = {place: index for index, place in enumerate(places)}
        return list(last), list(last.values())


def _pair(proto: Message, param: Message, both: str, one: str) -> Shape:
    """A (height, width) given as one field or as two."""
    height, width = f"{one}_h", f"{one}_w"
    given = [param.HasField(name) for name in (height, width)]
    if any(given) and (param.HasField(both) or not all(given)):
        raise net_error(
            proto, f"give either it or both {height} and {width}", f"unpooling_param.{both}"
        )
    if any(given):
        return getattr(param, height), getattr(param, width)
    value = getattr(param, both)
    return value, value
