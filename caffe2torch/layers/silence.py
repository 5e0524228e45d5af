"""Silence: takes blobs so that they are not outputs of the net."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from caffe2torch.graph import Shape
from caffe2torch.layers import register_layer
from caffe2torch.layers._base import Layer, OnnxBuilder, SourceBuilder

if TYPE_CHECKING:
    from torch import Tensor


@register_layer()
@dataclass(frozen=True)
class Silence(Layer):
    """Reads its bottoms and makes nothing of them (Caffe: silence_layer.cpp)."""

    type = "Silence"
    bottoms = (1, None)
    tops = (0, 0)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        return ()

    def forward(
        self, inputs: Sequence[Tensor], params: Mapping[str, Tensor], training: bool
    ) -> Sequence[Tensor]:
        return ()

    def to_onnx(
        self, g: OnnxBuilder, inputs: Sequence[str], params: Mapping[str, str]
    ) -> Sequence[str]:
        return ()

    def to_source(
        self, s: SourceBuilder, inputs: Sequence[str], bottoms: Sequence[Shape]
    ) -> str | Sequence[str]:
        return ()
