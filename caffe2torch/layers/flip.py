"""Flip: a map mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    register_layer,
)


@register_layer()
class Flip(Layer):
    """A map with its columns or rows in reverse order (happynear's Caffe: flip_layer.cpp).

    Bottom and top (N, C, H, W); ``flip_width`` (default true), ``flip_height`` (default
    false).
    """

    type = "Flip"
    parameters = Parameters(
        "flip_param",
        """
        optional bool flip_width = 1 [default = true];
        optional bool flip_height = 2 [default = false];
        """,
    )

    axes: tuple[int, ...]

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        p = cls.parameters.of(proto)
        chosen = ((2, p.flip_height), (3, p.flip_width))
        return cls(proto.name, tuple(axis for axis, flip in chosen if flip))

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        if len(bottoms[0]) != 4:
            raise self.net_error(f"the bottom's shape {bottoms[0]} is not (N, C, H, W)")
        return [bottoms[0]]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.torch.flip(inputs[0], self.axes)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        if not self.axes:
            return [g.op("Identity", inputs[0])]
        count, last = len(self.axes), np.iinfo(np.int64).min
        ends = ([-1] * count, [last] * count, self.axes, [-1] * count)
        return [g.op("Slice", inputs[0], *(g.const(end, np.int64) for end in ends))]
