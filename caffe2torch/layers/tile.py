"""Tile: the bottom repeated along an axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    TorchBuilder,
    canonical_axis,
    net_error,
    register_layer,
)


@register_layer()
class Tile(Layer):
    """``tiles`` copies one after another along ``axis``, default 1 (Caffe: tile_layer.cpp).

    (a, b, c) with tiles 2 makes (a, 2 b, c). ``tiles`` is required and positive.
    """

    type = "Tile"

    axis: int
    tiles: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        param = proto.tile_param
        if param.tiles < 1:
            raise net_error(proto, "give a positive number of tiles", "tile_param.tiles")
        return cls(name=proto.name, axis=param.axis, tiles=param.tiles)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        repeats = self._repeats(len(bottoms[0]))
        return [tuple(size * n for size, n in zip(bottoms[0], repeats, strict=True))]

    def _repeats(self, num_axes: int) -> list[int]:
        axis = canonical_axis(self, self.axis, num_axes, "tile_param.axis")
        return [self.tiles if i == axis else 1 for i in range(num_axes)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return inputs[0].repeat(*self._repeats(len(bottoms[0])))

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        repeats = self._repeats(len(g.shape(inputs[0])))
        return [g.op("Tile", inputs[0], g.const(repeats, np.int64))]
