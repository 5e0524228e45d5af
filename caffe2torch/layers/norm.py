"""Norm: the channels of each pixel at length one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.layers import Layer, OnnxBuilder, TorchBuilder, register_layer
from caffe2torch.layers._spatial import require_axes

EPS = 1e-6


@register_layer()
class Norm(Layer):
    """y = x / (sqrt(sum(x ** 2)) + 1e-6) with the sum over the channels of x (N, C, H, W).

    Forks: xiaolonw/caffe-3dnormal_joint_pose, yuqj1991/caffe_train, norm_layer.cpp. Errors: not
    four axes.
    """

    type = "Norm"

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        require_axes(self, bottoms[0])
        return [bottoms[0]]

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        (x,) = inputs
        return x / (t.torch.linalg.vector_norm(x, dim=1, keepdim=True) + EPS)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        (x,) = inputs
        norm = g.op("ReduceL2", x, axes=[1], keepdims=1)
        return [g.op("Div", x, g.op("Add", norm, g.const(EPS)))]
