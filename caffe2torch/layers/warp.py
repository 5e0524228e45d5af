"""Warp: an image read at places, or moved along a flow field, by fork."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from caffe2torch.graph import Shape
from caffe2torch.io.parameters import TEXT_ONLY
from caffe2torch.io.schema import Message
from caffe2torch.layers import OnnxBuilder, Parameters, TorchBuilder, register_layer
from caffe2torch.layers._sampling import Sampling, own_places_onnx, sample_pixels_onnx


@register_layer()
class Warp(Sampling):
    """The image at the places of the second bottom, bilinear between the four pixels around.

    Forks with one name for two layers (warp_layer.cu): in twhui/LiteFlowNet the second bottom
    holds the places (column, row), and pixels outside are 0. In NVlabs/PWC-Net it is a flow, added
    to each pixel's own place, and y is 0 where that is not between the outermost pixels. Both have
    image (N, C, H, W), second bottom (N, 2, H, W), top (N, C, H, W).

    A net does not say whose it is. It is LiteFlowNet's if the second bottom comes from a Grid,
    which that fork alone has; PWC-Net's in a net without Grid whose second bottom a layer makes.
    In other nets ``warp_param { adds_flow: true }``, or false, must be written. Errors: other
    shapes.
    """

    type = "Warp"
    parameters = Parameters("warp_param", f"optional bool adds_flow = {TEXT_ONLY};")

    adds_flow: bool | None

    @classmethod
    def from_proto(cls, proto: Message) -> Warp:
        param = cls.parameters.of(proto)
        return cls(proto.name, param.adds_flow if param.HasField("adds_flow") else None)

    def infer_shapes(self, bottoms: Sequence[Shape]) -> Sequence[Shape]:
        if self.adds_flow is None:
            raise self.unsupported(
                "forks differ in whether its second bottom is a flow (PWC-Net) or holds places "
                "(LiteFlowNet), and this net does not show it: write "
                "warp_param { adds_flow: true } or false into it",
                "warp_param.adds_flow",
            )
        if bottoms[0][2:] != bottoms[1][2:]:
            raise self.net_error(
                f"bottoms of shapes {list(bottoms)} must have one height and width"
            )
        return super().infer_shapes(bottoms)

    def to_torch(self, t: TorchBuilder, inputs: Sequence[Any], bottoms: Sequence[Shape]) -> Any:
        image, flow = inputs
        if not self.adds_flow:
            return t.runtime.sample_pixels(image, flow)
        return t.runtime.sample_pixels(image, t.runtime.own_places(flow), within=True)

    def to_onnx(self, g: OnnxBuilder, inputs: Sequence[str]) -> Sequence[str]:
        image, flow = inputs
        if not self.adds_flow:
            return super().to_onnx(g, inputs)
        x, y = own_places_onnx(g, flow)
        return [sample_pixels_onnx(g, image, x, y, g.shape(flow)[2:], within=True)]
