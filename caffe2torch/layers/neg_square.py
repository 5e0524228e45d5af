"""NegSquare: y = -(x ^ 2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.layers import Backward, Layer, OnnxBuilder, Reads, TorchBuilder, register_layer


@register_layer()
class NegSquare(Layer):
    """y = -(x ^ 2), elementwise on any shape.

    Fork: twhui/LiteFlowNet, negsquare_layer.cu. Its backward pass multiplies by what the last one
    left in the gradient's memory, so that a training through it is refused.
    """

    type = "NegSquare"
    reads = Reads(always=True)
    works_in_place = True

    def gradient(self, t: TorchBuilder, found: Backward) -> Sequence[Any]:
        raise self.unsupported(
            "the fork's gradient is made of what the memory of the last one holds; give the layer "
            "by a plugin (--plugin), or keep the gradient from it by propagate_down: false"
        )

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        return -t.torch.square(inputs[0])

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        return [g.op("Neg", g.op("Mul", inputs[0], inputs[0]))]
