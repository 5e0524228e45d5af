"""Tiling: channels to the pixels of a tile."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.schema import Message
from caffe2torch.layers import (
    Layer,
    OnnxBuilder,
    Parameters,
    TorchBuilder,
    net_error,
    register_layer,
)
from caffe2torch.layers._spatial import require_axes


@register_layer()
class Tiling(Layer):
    """y[c, t h + i, t w + j] = x[t^2 c + t i + j, h, w] with t = ``tile_dim``.

    (N, C, H, W) to (N, C / t^2, t H, t W). Fork: VPGNet, tiling_layer.cpp. Errors: no positive
    ``tile_dim``; C not divisible by its square.
    """

    type = "Tiling"
    parameters = Parameters("tiling_param", "optional uint32 tile_dim = 1;")

    tile_dim: int

    @classmethod
    def from_proto(cls, proto: Message) -> Layer:
        tile_dim = cls.parameters.of(proto).tile_dim
        if not tile_dim:
            raise net_error(proto, "it must be given and positive", "tiling_param.tile_dim")
        return cls(name=proto.name, tile_dim=tile_dim)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (shape,) = bottoms
        require_axes(self, shape)
        t, (n, c, h, w) = self.tile_dim, shape
        if c % (t * t):
            raise self.net_error(f"{c} channels are not divisible by {t * t}", "tile_dim")
        return [(n, c // (t * t), t * h, t * w)]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.F.pixel_shuffle(inputs[0], self.tile_dim)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [g.op("DepthToSpace", inputs[0], blocksize=self.tile_dim, mode="CRD")]
