"""Tile: the bottom repeated along an axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import register_layer
from caffe2torch.layers._base import Layer, OnnxBuilder, SourceBuilder, canonical_axis, net_error
from caffe2torch.layers._python import call

if TYPE_CHECKING:
    from torch import Tensor
    from typing_extensions import Self


@register_layer()
@dataclass(frozen=True)
class Tile(Layer):
    """``tiles`` copies one after another along ``axis``, default 1 (Caffe: tile_layer.cpp).

    (a, b, c) with tiles 2 makes (a, 2 b, c). ``tiles`` is required and positive.
    """

    type = "Tile"

    axis: int
    tiles: int

    @classmethod
    def from_proto(cls, proto: Message) -> Self:
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

    def forward(
        self, inputs: Sequence[Tensor], params: Mapping[str, Tensor], training: bool
    ) -> Tensor:
        return inputs[0].repeat(self._repeats(inputs[0].ndim))

    def to_onnx(
        self, g: OnnxBuilder, inputs: Sequence[str], params: Mapping[str, str]
    ) -> Sequence[str]:
        repeats = self._repeats(len(g.shape(inputs[0])))
        return [g.op("Tile", inputs[0], g.const(repeats, np.int64))]

    def to_source(
        self, s: SourceBuilder, inputs: Sequence[str], bottoms: Sequence[Shape]
    ) -> str | Sequence[str]:
        return call(f"{inputs[0]}.repeat", *self._repeats(len(bottoms[0])))
