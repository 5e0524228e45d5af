"""Silence: takes blobs so that they are not outputs of the net."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, register_layer


@register_layer()
class Silence(Layer):
    """Reads its bottoms and makes nothing of them (Caffe: silence_layer.cpp)."""

    type = "Silence"
    bottoms = (1, None)
    tops = (0, 0)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        return ()

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return ()

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return ()
