"""ChannelNorm: the length of each pixel's vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, register_layer
from caffe2torch.layers._spatial import require_axes


@register_layer()
class ChannelNorm(Layer):
    """y = sqrt(sum over c of x[c] ** 2) for a bottom (N, C, H, W), top (N, 1, H, W).

    FlowNet 2: channel_norm_layer.cpp.
    """

    type = "ChannelNorm"

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        (shape,) = bottoms
        require_axes(self, shape)
        return [(shape[0], 1, *shape[2:])]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return t.torch.linalg.vector_norm(inputs[0], dim=1, keepdim=True)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [g.op("ReduceL2", inputs[0], axes=[1], keepdims=1)]
